//! Hold the estimate to what was simulated, to its units and to its page.

use super::*;
use hodei_storage::prove::{Change, Tree, prove};
use hodei_types::{
    abi::SAMPLES,
    code::SHARD_BYTES,
    slice::{CHUNK_BYTES, ShardId},
};

const DAILY: Proving = Proving { deals: 64, held_bytes: 1 << 40, window_secs: 86_400 };

fn of(class: Class) -> Energy {
    Energy::of(&class.shape(100), class, &DAILY)
}

#[test]
fn phones_move_what_was_simulated_and_others_less() {
    // 1,129 GB for each TB and month.
    let phone = of(Class::Phone).repair.bytes;
    let simulated = (GIB * 1_129 / 1_000) as u64;
    assert!(phone.abs_diff(simulated) < simulated / 100, "{phone} where {simulated} were simulated");
    assert!(of(Class::Datacentre).repair.bytes < of(Class::Home).repair.bytes);
    assert!(of(Class::Home).repair.bytes < phone);
}

#[test]
fn a_proof_is_counted_with_the_bytes_that_its_codec_gives_it() {
    let shard = vec![7; SHARD_BYTES as usize];
    let change = Change::Append { id: ShardId::of(&shard), leaves: (shard.len() / CHUNK_BYTES) as u16 };
    let mut tree = Tree::default();
    for _ in 0..(16 << 30) / u64::from(SHARD_BYTES) {
        tree.apply(change).unwrap();
    }
    let drawn = tree.find(&tree.root(), tree.leaves(), tree.leaves() / 2).unwrap();
    // Each leaf's proof stands behind its length.
    let one = size_of::<u32>() + prove(&drawn, &shard).unwrap().len();
    assert_eq!(PROOF_BYTES, (SAMPLES * one) as u64);
}

#[test]
fn units_are_as_defined() {
    // A core at a watt for an hour, a TB at a watt for an hour, a GB at a watt-hour.
    assert_eq!(Cost::of(cpu(3_600_000, 1_000)).milliwatt_hours, 1_000);
    assert_eq!(Cost::of(disk(1_000, 1_000)).milliwatt_hours, 1_074, "1000 GiB are 1.074 TB");
    assert_eq!(Cost::of(network(1_000_000_000, 1_000)).milliwatt_hours, 1_000);
    assert_eq!(Cost::of(1_000_000_000_000).milligrams_co2e, GRID_GRAMS * 1_000, "a kWh");
    assert_eq!(Cost::of(1), Cost { milliwatt_hours: 1, milligrams_co2e: 1 }, "never told as nothing");
    assert_eq!(
        [0, 7, 99, 100, 1_711, 9_999, 10_000, 60_499].map(units),
        ["0.000", "0.007", "0.099", "0.10", "1.71", "9.99", "10", "60"]
    );
    // 720 h × 3 × 0.65 W × 1.135 × 1.0737 GB.
    assert_eq!(centre().milliwatt_hours, 1_712);
}

#[test]
fn shorter_windows_smaller_buckets_and_more_parity_take_more() {
    let home = of(Class::Home);
    let shape = Class::Home.shape(100);
    let short = Energy::of(&shape, Class::Home, &Proving { window_secs: 10, ..DAILY });
    let small = Energy::of(&shape, Class::Home, &Proving { held_bytes: 1 << 30, ..DAILY });
    assert!(short.proofs.cpu_ms > home.proofs.cpu_ms && small.proofs.cpu_ms > home.proofs.cpu_ms);
    assert!(short.stored.beside.milliwatt_hours > home.stored.beside.milliwatt_hours);
    let wide = Energy::of(&Shape::new(16, 48, 1).unwrap(), Class::Home, &DAILY);
    assert_eq!((home.disk_gib_hours, wide.disk_gib_hours), (1_440, 2_160));
    assert!(wide.stored.whole.milliwatt_hours > home.stored.whole.milliwatt_hours);
    for class in Class::ALL {
        let energy = of(class);
        for Both { beside, whole } in [energy.stored, energy.read] {
            assert!(beside.milliwatt_hours < whole.milliwatt_hours, "{class:?}");
            assert!(beside.milligrams_co2e < whole.milligrams_co2e, "{class:?}");
        }
        assert!(energy.lines().iter().all(|line| line.contains("(computed)")));
    }
}

#[test]
fn no_shape_and_no_bucket_overflows() {
    let empty = Proving { deals: u64::MAX, held_bytes: 0, window_secs: 0 };
    for (k, n) in [(1, 2), (1, 255), (100, 255)] {
        for class in Class::ALL {
            let energy = Energy::of(&Shape::new(k, n, 1).unwrap(), class, &empty);
            assert_eq!((energy.window_secs, energy.proofs.cpu_ms), (1, u64::MAX));
            assert!(energy.stored.whole.milliwatt_hours > 0);
        }
    }
}

/// A class as `docs/energy.md` tells it.
fn row(class: Class) -> String {
    let ((k, n), energy) = (class.code(), of(class));
    let work = |work: Work| {
        format!("{}.{:02} s, {} MB", work.cpu_ms / 1_000, work.cpu_ms % 1_000 / 10, units(work.bytes.div_ceil(1_000)))
    };
    let cost = |cost: Cost| format!("{} Wh, {} g", units(cost.milliwatt_hours), units(cost.milligrams_co2e));
    format!(
        "| {}, {k} of {n} | {} | {} | {} | {} | **{}** | **{}** |",
        class.name(),
        energy.disk_gib_hours,
        work(energy.repair),
        work(energy.proofs),
        work(energy.chain),
        cost(energy.stored.beside),
        cost(energy.stored.whole),
    )
}

#[test]
fn the_page_says_what_the_code_does() {
    let page = include_str!("../../../../docs/energy.md");
    let read = of(Class::Home).read;
    let mut told: Vec<String> = Class::ALL.into_iter().map(row).collect();
    told.push(format!(
        "| published, a data centre's disks | {} Wh, {} g |",
        units(centre().milliwatt_hours),
        units(centre().milligrams_co2e)
    ));
    told.push(format!(
        "| a GB read | {} Wh, {} g | {} Wh, {} g |",
        units(read.beside.milliwatt_hours),
        units(read.beside.milligrams_co2e),
        units(read.whole.milliwatt_hours),
        units(read.whole.milligrams_co2e)
    ));
    for (name, value) in [
        ("READ_CPU_MS", READ_CPU_MS),
        ("READ_WIRE_THOUSANDTHS", READ_WIRE_THOUSANDTHS),
        ("REPAIR_CPU_MS", REPAIR_CPU_MS),
        ("PROOF_CPU_MS", PROOF_CPU_MS),
        ("PROOF_BYTES", PROOF_BYTES),
        ("VALIDATOR_CPU_MS", VALIDATOR_CPU_MS),
        ("PROVIDER_CPU_MS", PROVIDER_CPU_MS),
        ("CHAIN_BYTES", CHAIN_BYTES),
        ("NETWORK_TB", NETWORK_TB),
        ("KEPT_GB", KEPT_GB),
        ("PHONE_KEPT_GB", PHONE_KEPT_GB),
        ("RETURNS_PERCENT", RETURNS_PERCENT),
        ("CORE_BESIDE_MILLIWATTS", CORE_BESIDE_MILLIWATTS),
        ("CORE_WHOLE_MILLIWATTS", CORE_WHOLE_MILLIWATTS),
        ("NETWORK_BESIDE_MILLIWATT_HOURS", NETWORK_BESIDE_MILLIWATT_HOURS),
        ("NETWORK_WHOLE_MILLIWATT_HOURS", NETWORK_WHOLE_MILLIWATT_HOURS),
        ("CENTRE_DISK_MILLIWATTS", CENTRE_DISK_MILLIWATTS),
        ("HOME_DISK_MILLIWATTS", HOME_DISK_MILLIWATTS),
        ("FLASH_MILLIWATTS", FLASH_MILLIWATTS),
        ("CENTRE_PUE_THOUSANDTHS", CENTRE_PUE_THOUSANDTHS),
        ("CENTRE_COPIES", CENTRE_COPIES),
        ("GRID_GRAMS", GRID_GRAMS),
    ] {
        told.push(format!("| `{name}` | {value} |"));
    }
    let missing: Vec<_> = told.iter().filter(|line| !page.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "docs/energy.md should say:\n{missing:#?}");
}
