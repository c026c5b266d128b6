//! Tell of parts of a bucket that are stored again: what that costs, how far it is, and what could not be done.

use crate::{
    fault::{self, Fault, Result},
    money,
    out::Out,
    session::sdk_fault,
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    bucket::Closed,
    recode::{Options, Recoded},
};
use std::sync::{Mutex, PoisonError};

/// Bytes a second of so many mebibytes.
pub(crate) fn rate(mib: Option<u64>) -> Option<u64> {
    mib.map(|mib| mib << 20)
}

/// At most at this rate, with a bar.
pub(crate) fn options(bucket: &str, total: u64, rate: Option<u64>, out: Out) -> Options {
    let progress = Mutex::new(out.progress(format!("store {bucket} again"), (total > 0).then_some(total)));
    let told = move |done| progress.lock().unwrap_or_else(PoisonError::into_inner).set(done);
    Options { rate, progress: Some(Box::new(told)) }
}

/// Waits for those who still read the old shards, and lets go of these.
pub(crate) async fn release(cloud: &Local, recoded: &Recoded, out: Out) -> Result<()> {
    if recoded.swaps == 0 {
        return Ok(());
    }
    out.say("waiting a minute, for those who still read the old shards");
    cloud.await_release().await.map_err(sdk_fault)
}

/// Fails where some parts stay as they were.
pub(crate) fn whole(recoded: &Recoded) -> Result<()> {
    let Some(first) = recoded.failures.first() else { return Ok(()) };
    let message =
        format!("{} parts could not be stored again and stay as they were; the first: {first}", recoded.failures.len());
    Err(Fault::new(&fault::GET_SHORT, message, "run the same command again; `hodei status` shows the providers"))
}

/// `then` and `now` are wei per window; deals to open and to enlarge take `escrow`.
pub(crate) fn price((then, now): (U256, U256), escrow: U256, (open, enlarge): (usize, usize)) -> String {
    format!(
        "Price: {} per window for what is stored, {} before; {} more in escrow for {open} new deals and {enlarge} \
         larger ones; what is not used comes back.",
        money::show(then),
        money::show(now),
        money::show(escrow),
    )
}

/// `; 2 deals ended, 0.1 hod come back`, or nothing.
pub(crate) fn ended(closed: &Closed) -> String {
    let mut text = String::new();
    if closed.ended > 0 {
        text.push_str(&format!("; {} deals ended, {} come back", closed.ended, money::show(closed.refunded)));
    }
    if closed.closing > 0 {
        text.push_str(&format!(
            "; {} deals end with the proof they owe, and their escrow comes back then",
            closed.closing
        ));
    }
    text
}

/// What parts have fewer shards than they should, or nothing.
pub(crate) fn short(recoded: &Recoded) -> String {
    match recoded.short_parts {
        0 => String::new(),
        parts => {
            format!("; {parts} parts have the quorum's shards alone, since a provider did not take its own in time")
        }
    }
}
