//! Measure how fast one core turns plaintext into shards: the first of the ceilings of put and get.
//!
//! Prints MB of user data per CPU-second for each class: the whole of it, and sealing, coding, padding and
//! hashing alone. CPU time is the kernel's for this thread, so a busy machine disturbs it little.

use hodei_storage::{
    code::Codec,
    engine::{Coder, plain_bytes},
    seal::{Algorithm, FRAME_BYTES, PartKey, Place, Secret},
};
use hodei_types::{
    code::{Class, OPERATORS_FOR_TWO, SHARD_BYTES},
    slice::ShardId,
};
use std::time::{Duration, Instant};

/// Long enough to settle, short enough for ten of them.
const EACH: Duration = Duration::from_secs(1);

fn main() {
    let algorithm = Algorithm::preferred();
    println!("{algorithm:?}, MB of user data per CPU-second");
    println!("{:<12} {:>8} {:>8} {:>8} {:>8} {:>8}", "class", "whole", "seal", "code", "pad", "hash");
    for class in Class::ALL {
        let shape = class.shape(OPERATORS_FOR_TWO);
        let place = Place { network: [1; 32], bucket: [2; 32], object: [3; 16], part: 0, attempt: 0, algorithm };
        let coder = Coder::new(PartKey::new(&Secret::new([4; 32]), &place), &shape);
        let plain = vec![7u8; plain_bytes(&shape) as usize];
        let mut stripe = 0;
        let whole = rate(plain.len(), || {
            stripe += 1;
            std::hint::black_box(coder.code(stripe, &plain, false).ids);
        });
        let (k, n, len) = (usize::from(shape.k()), usize::from(shape.n()), SHARD_BYTES as usize);
        let codec = Codec::new(shape.k(), shape.n());
        let data = vec![7u8; k * len];
        let mut parity = vec![0u8; (n - k) * len];
        let code = rate(data.len(), || codec.encode(&data, std::hint::black_box(&mut parity)));
        let key = PartKey::new(&Secret::new([4; 32]), &place);
        let mut shards = data.clone();
        let seal = rate(data.len(), || {
            for (number, frame) in shards.chunks_mut(FRAME_BYTES).enumerate() {
                key.seal(number as u64, false, std::hint::black_box(frame));
            }
        });
        shards.extend_from_slice(&parity);
        let pads = key.stripe(0);
        let pad = rate(data.len(), || {
            for (index, shard) in shards.chunks_mut(len).enumerate() {
                pads.apply(index as u8, 0, std::hint::black_box(shard));
            }
        });
        let hash = rate(data.len(), || {
            for shard in data.chunks(len).chain(parity.chunks(len)) {
                std::hint::black_box(ShardId::of(shard));
            }
        });
        println!("{:<12} {whole:>8.0} {seal:>8.0} {code:>8.0} {pad:>8.0} {hash:>8.0}", class.name());
    }
}

/// MB a CPU-second.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let (start, from, mut rounds) = (Instant::now(), cpu(), 0u32);
    while start.elapsed() < EACH {
        work();
        rounds += 1;
    }
    bytes as f64 * f64::from(rounds) / 1e6 / (cpu() - from)
}

/// Seconds of CPU this thread has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = stat.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    nanos.expect("its first field is time on a CPU, in ns") / 1e9
}
