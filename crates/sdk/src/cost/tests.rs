//! Hold the costs to their units, to what moves them, and to their page.

use super::{
    figures::{
        BOUGHT, BOUGHT_MONTHS, BOUGHT_TB, BOUGHT_VCPUS, CASE_MICROS, DISK_MICROS, EURO, FILLED_PERCENT, HOME,
        KWH_MICROS, LINE_MICROS, MACHINES, OWN_LINE_MICROS, PHONE, PHONE_FLASH_MICROS, RENTED, RENTED_CORES_MICROS,
        RENTED_DISKS_MICROS, RENTED_DISKS_SETUP_MICROS, RENTED_MONTHS, RENTED_TB, RENTED_VCPUS, SMALL_MICROS,
        SOLD_PERCENT, VALIDATOR_MICROS, euros,
    },
    *,
};

const DAILY: Proving = Proving { deals: 64, held_bytes: 1 << 40, window_secs: 86_400 };

/// A dollar for each, all of it used.
const PLAIN: Machine = Machine {
    name: "plain",
    device: Class::Home,
    disk_micros: 1_000_000,
    disk_milliwatts: 1_000,
    core_micros: 720_000,
    core_milliwatts: 1_000,
    waiting_milliwatts: 500,
    kwh_micros: 1_000_000,
    line_micros: 1_000_000,
    filled_percent: 100,
    sold_percent: 100,
};

fn stored(machine: &Machine) -> Stored {
    machine.stored(&machine.device.shape(100), &DAILY)
}

#[test]
fn units_are_as_defined() {
    let twice = Shape::new(1, 2, 1).unwrap();
    let whole = PLAIN.stored(&twice, &DAILY);
    assert_eq!(whole.hardware, 2_148, "2 GiB are 0.002147 TB");
    assert_eq!(whole.electricity, 1_547, "0.002147 TB at a watt for 720 hours are 1.546 Wh");
    let half = Machine { filled_percent: 50, sold_percent: 50, ..PLAIN };
    assert_eq!(half.stored(&twice, &DAILY).hardware, 4_295);
    assert_eq!(half.stored(&twice, &DAILY).electricity, 3_093);

    assert_eq!(PLAIN.vcpu_hour(), Hour { hardware: 1_000, electricity: 1_000 });
    assert_eq!(half.vcpu_hour(), Hour { hardware: 2_000, electricity: 1_500 }, "an hour waits for each that is sold");
    assert_eq!(PLAIN.work(HOUR_MS), 2_000);
    assert_eq!(PLAIN.delivered().line, READ_WIRE_THOUSANDTHS, "a dollar for a TB is a thousandth for a GB");
    assert_eq!(validators(1), 40_596, "four of $9.451917, and 0.001074 TB");
    assert_eq!([0, 415, 1_000_000, 12_345_678].map(dollars), ["$0.000000", "$0.000415", "$1.000000", "$12.345678"]);
    assert_eq!(euros(1_000_000), 1_113_300);
}

#[test]
fn what_is_there_anyway_costs_less_than_what_is_got_for_it() {
    for got in [RENTED, BOUGHT] {
        assert!(stored(&HOME).total() < stored(&got).total(), "{}", got.name);
        assert!(HOME.vcpu_hour().total() < got.vcpu_hour().total(), "{}", got.name);
        let emptier = Machine { filled_percent: got.filled_percent / 2, sold_percent: got.sold_percent / 2, ..got };
        assert!(stored(&emptier).total() > stored(&got).total(), "{}", got.name);
        assert!(emptier.vcpu_hour().total() > got.vcpu_hour().total(), "{}", got.name);
    }
    assert!(validators(NETWORK_TB / 10) > validators(NETWORK_TB) * 9, "fewer share the same validators");
}

#[test]
fn no_price_overflows() {
    let most = Machine {
        name: "most",
        device: Class::Phone,
        disk_micros: u32::MAX,
        disk_milliwatts: u32::MAX,
        core_micros: u32::MAX,
        core_milliwatts: u32::MAX,
        waiting_milliwatts: u32::MAX,
        kwh_micros: u32::MAX,
        line_micros: u32::MAX,
        filled_percent: 0,
        sold_percent: 0,
    };
    let silly = Proving { deals: u64::MAX, held_bytes: 0, window_secs: 0 };
    for (k, n) in [(1, 2), (1, 255), (100, 255)] {
        let cost = most.stored(&Shape::new(k, n, 1).unwrap(), &silly);
        assert_eq!((cost.work, cost.total()), (u64::MAX, u64::MAX));
    }
    assert!(most.delivered().total() > 0 && validators(0) == validators(1));
}

/// A row of what the four machines cost.
fn row(what: &str, of: impl Fn(&Machine) -> u64) -> String {
    let cells: Vec<String> = MACHINES.iter().map(|machine| dollars(of(machine))).collect();
    format!("| {what} | {} |", cells.join(" | "))
}

/// The stated prices as the page tells them.
fn figures() -> Vec<String> {
    [
        ("EURO", EURO),
        ("KWH_MICROS", KWH_MICROS.into()),
        ("LINE_MICROS", LINE_MICROS.into()),
        ("RENTED_DISKS_MICROS", RENTED_DISKS_MICROS.into()),
        ("RENTED_DISKS_SETUP_MICROS", RENTED_DISKS_SETUP_MICROS.into()),
        ("RENTED_TB", RENTED_TB.into()),
        ("RENTED_CORES_MICROS", RENTED_CORES_MICROS.into()),
        ("RENTED_VCPUS", RENTED_VCPUS.into()),
        ("RENTED_MONTHS", RENTED_MONTHS.into()),
        ("VALIDATOR_MICROS", VALIDATOR_MICROS.into()),
        ("DISK_MICROS", DISK_MICROS.into()),
        ("CASE_MICROS", CASE_MICROS.into()),
        ("BOUGHT_TB", BOUGHT_TB.into()),
        ("SMALL_MICROS", SMALL_MICROS.into()),
        ("BOUGHT_VCPUS", BOUGHT_VCPUS.into()),
        ("BOUGHT_MONTHS", BOUGHT_MONTHS.into()),
        ("FILLED_PERCENT", FILLED_PERCENT.into()),
        ("SOLD_PERCENT", SOLD_PERCENT.into()),
        ("OWN_LINE_MICROS", OWN_LINE_MICROS.into()),
        ("PHONE_FLASH_MICROS", PHONE_FLASH_MICROS.into()),
    ]
    .map(|(name, value): (_, u64)| format!("| `{name}` | {value} |"))
    .to_vec()
}

/// Each assumption worse by a factor of two, or as named.
fn sensitivity() -> Vec<String> {
    let gib = |machine: &Machine| stored(machine).total();
    let shared_by = |machine: &Machine, tb| gib(machine) - validators(NETWORK_TB) + validators(tb);
    let hour = |machine: &Machine| machine.vcpu_hour().total();
    let emptier = |machine: &Machine| Machine { filled_percent: FILLED_PERCENT / 2, ..*machine };
    let unsold = |machine: &Machine| Machine { sold_percent: SOLD_PERCENT / 2, ..*machine };
    let dearer = |machine: &Machine| Machine {
        disk_micros: machine.disk_micros * 2,
        core_micros: machine.core_micros * 2,
        ..*machine
    };
    let current = |machine: &Machine| Machine { kwh_micros: machine.kwh_micros * 2, ..*machine };
    vec![
        row("as stated", gib),
        row("half as much of the disk is filled", |machine| gib(&emptier(machine))),
        row("hardware costs twice as much, or lives half as long", |machine| gib(&dearer(machine))),
        row("electricity costs twice as much", |machine| gib(&current(machine))),
        row("all CPU and bytes are twice as many", |machine| {
            let stored = stored(machine);
            stored.total() + stored.work + stored.line
        }),
        row("validators are shared by half, 50 TB", |machine| shared_by(machine, NETWORK_TB / 2)),
        row("validators are shared by a tenth, 10 TB", |machine| shared_by(machine, NETWORK_TB / 10)),
        row("as stated, a vCPU-hour", hour),
        row("half as much of its time is sold", |machine| hour(&unsold(machine))),
        row("hardware costs twice as much", |machine| hour(&dearer(machine))),
        row("electricity costs twice as much, a vCPU-hour", |machine| hour(&current(machine))),
        row("the sandbox takes as much again as the work itself", |machine| hour(machine) * 2),
    ]
}

#[test]
fn the_page_says_what_the_code_does() {
    let page = include_str!("../../../../docs/costs.md");
    let mut told = figures();
    told.extend(sensitivity());
    for machine in MACHINES {
        let ((k, n), cost) = (machine.device.code(), stored(&machine));
        let parts = [cost.hardware, cost.electricity, cost.work, cost.line, cost.validators].map(dollars).join(" | ");
        told.push(format!("| {}, {k} of {n} | {parts} | **{}** |", machine.name, dollars(cost.total())));
        let cost = machine.delivered();
        let parts = [cost.work, cost.line].map(dollars).join(" | ");
        told.push(format!("| {} | {parts} | **{}** |", machine.name, dollars(cost.total())));
        let cost = machine.vcpu_hour();
        let parts = [cost.hardware, cost.electricity].map(dollars).join(" | ");
        told.push(format!("| {}, an hour | {parts} | **{}** |", machine.name, dollars(cost.total())));
    }
    let own = Machine { line_micros: OWN_LINE_MICROS, ..HOME };
    told.push(format!("had for this alone, a GB delivered costs {}", dollars(own.delivered().total())));
    let flash = Machine { disk_micros: PHONE_FLASH_MICROS, ..PHONE };
    told.push(format!("flash were bought for it, {}", dollars(stored(&flash).total())));
    // Others' prices in euros: of a TB as a thousand GB, then of a month of 730 hours.
    told.extend([4_980, 1_000].map(|price| format!(", {} |", dollars(euros(price).into()))));
    for (name, price, vcpus) in [
        ("AWS m6a.large | €67.86", 67_860_000, 2),
        ("Azure D2a_v4 | €66.80", 66_800_000, 2),
        ("Google e2-standard-2 | €56.61", 56_610_000, 2),
        ("Hetzner CCX13 | €42.99", 42_990_000, 2),
        ("OVHcloud b3-8 | €37.38", 37_380_000, 2),
        ("Hetzner CX33, shared | €8.49", 8_490_000, 4),
    ] {
        told.push(format!("| {name} | {vcpus} | {} |", dollars(u64::from(euros(price)) / (730 * vcpus))));
    }
    let missing: Vec<_> = told.iter().filter(|line| !page.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "docs/costs.md should say:\n{missing:#?}");
}
