//! Look after the buckets of others, and say what that earned.

use crate::{
    again,
    args::CareRun,
    data::finish,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    serve::stopped,
    session::{Session, sdk_fault},
    status::short,
    time::{now_ms, utc},
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    custody::{Charge, Notes, SETTLES, Step, Tended},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Pause between two lines that say how far a look is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// `hodei data care run`.
pub(crate) async fn run(args: &CareRun, session: &Session, out: Out) -> Result<()> {
    let charges = charges(&args.files)?;
    let stop = stopped(args.process.until_stdin_closes)?;
    let cloud = session.cloud().await?;
    let account = cloud.wallet().spender().address();
    out.result(
        format!("buckets looked after as {account}: {}", charges.len()),
        &json!({ "schema": "hodei.data.care.ready/1", "buckets": charges.len(), "account": account.to_string() }),
    );
    let work = async {
        let mut kept: Vec<Kept> = charges.iter().map(|_| Kept::default()).collect();
        loop {
            let mut unwell = None;
            for (charge, kept) in charges.iter().zip(&mut kept) {
                if let Err(fault) = tend(&cloud, charge, kept, args, out).await {
                    unwell = Some(fault);
                }
            }
            if args.once {
                return unwell.map_or(Ok(()), Err);
            }
            let at_ms = now_ms() + args.every * 1000;
            out.result(
                format!("next look at {}", utc(at_ms)),
                &json!({ "schema": "hodei.data.care.next/1", "at_ms": at_ms }),
            );
            tokio::time::sleep(Duration::from_secs(args.every)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = stop => Ok(()),
    };
    finish(&cloud, out).await;
    // What was posted last, too.
    for charge in &charges {
        let (bucket, wei) = (charge.bucket.to_string(), cloud.earned(charge.bucket));
        out.result(
            match wei.is_zero() {
                true => String::new(),
                false => format!("{}: earned {} in all", short(&bucket), money::exact(wei)),
            },
            &json!({ "schema": "hodei.data.care.earned/1", "bucket": bucket, "earned_wei": wei.to_string() }),
        );
    }
    done
}

/// What is kept of a bucket from look to look.
#[derive(Default)]
struct Kept {
    notes: Notes,
    /// Why something was not done at the last look: it is not said again and again.
    failures: BTreeSet<String>,
}

/// One look at one bucket. What failed is told, and is an error to who does not go on looking.
async fn tend(cloud: &Local, charge: &Charge, kept: &mut Kept, args: &CareRun, out: Out) -> Result<()> {
    let bucket = charge.bucket.to_string();
    // Where the last look came to nothing, how far this one is tells nothing new at once.
    let last = Mutex::new((!kept.failures.is_empty()).then(Instant::now));
    let tell = |step| tell(&bucket, step, &last, out);
    let tended = match cloud.tend(charge, &mut kept.notes, again::rate(args.rate), &tell).await {
        Ok(tended) => tended,
        Err(error) => {
            let fault = sdk_fault(error);
            match out.json {
                true => out.line(&fault.json().to_string()),
                false => out.say(format!("{}: {}", short(&bucket), fault.message)),
            }
            return Err(fault);
        }
    };
    let earned = cloud.earned(charge.bucket);
    let mut lines = text(&bucket, &tended, earned, &kept.failures);
    kept.failures.clone_from(&tended.failures);
    if tended.left > 0 {
        lines.push_str(&left(&tended, args));
    }
    out.result(lines, &told(&bucket, &tended, earned));
    match tended.failures.first() {
        Some(why) => {
            let help = "the lines above say what stays; the next look tries again";
            Err(Fault::new(&fault::UNREADABLE, format!("not everything was restored: {why}"), help).at(bucket))
        }
        None => Ok(()),
    }
}

/// How far a look is, for people, now and then.
fn tell(bucket: &str, step: Step, last: &Mutex<Option<Instant>>, out: Out) {
    let bucket = short(bucket);
    match step {
        Step::Settles { stripes } => out.say(format!(
            "{bucket}: {stripes} stripes lack something; they are looked at again in {} s, since a put may be under way",
            SETTLES.as_secs()
        )),
        Step::Mended { done, of } => {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
                *last = Some(Instant::now());
                out.say(format!("{bucket}: {done} of {of} stripes dealt with"));
            }
        }
    }
}

/// What waits for whom, and until when.
fn left(tended: &Tended, args: &CareRun) -> String {
    let whose = format!(
        "\n  {} stripes are left to those who were appointed before this account, the {} of this bucket's",
        tended.left,
        ordinal(tended.rank + 1)
    );
    match args.once {
        true => {
            format!("{whose}: it makes them at its look {} in a row, so run it without --once", tended.left_looks + 1)
        }
        false => {
            let turn_ms = now_ms() + tended.left_looks * args.every * 1000;
            format!("{whose}: what they have not made by about {} is made here", utc(turn_ms))
        }
    }
}

/// Of a place among eight.
fn ordinal(place: u64) -> String {
    match place {
        1 => "1st".into(),
        2 => "2nd".into(),
        3 => "3rd".into(),
        _ => format!("{place}th"),
    }
}

/// For people; what stays undone for the reasons of the look `before` is said in two words.
fn text(bucket: &str, tended: &Tended, earned: U256, before: &BTreeSet<String>) -> String {
    let mut text = format!("{}: {} stripes, {} due", short(bucket), tended.stripes.all(), tended.due);
    if tended.restored_shards > 0 {
        text.push_str(&format!(", {} shards of {} stripes restored", tended.restored_shards, tended.restored_stripes));
    }
    let left = tended.moved_shards.saturating_sub(tended.doubted_shards);
    for (shards, who) in [(left, "who leaves"), (tended.doubted_shards, "who missed proofs")] {
        if shards > 0 {
            text.push_str(&format!(", {shards} shards moved from {who}"));
        }
    }
    if tended.read_bytes + tended.sent_bytes > 0 {
        text.push_str(&format!(", {} read and {} sent", bytes(tended.read_bytes), bytes(tended.sent_bytes)));
    }
    if tended.new_deals > 0 {
        text.push_str(&format!(
            ", {} new deals with {} from the reserve",
            tended.new_deals,
            money::show(tended.escrow)
        ));
    }
    let counts = [
        (tended.found_shards, "shards found that somebody brought and did not say"),
        (tended.copies, "copies of pages made"),
        (tended.released_deals, "deals ended with who leaves"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    if !earned.is_zero() {
        text.push_str(&format!(", {} earned so far", money::show(earned)));
    }
    if !before.is_empty() && tended.failures == *before {
        text.push_str("; not done, as before");
    } else {
        tended.failures.iter().for_each(|why| text.push_str(&format!("\n  not done: {why}")));
    }
    for why in &tended.stays {
        text.push_str(&format!("\n  a deal with who leaves stays: {why}"));
    }
    text
}

/// `earned` is what came since this process began; what this look owes may be posted after it.
fn told(bucket: &str, tended: &Tended, earned: U256) -> Value {
    let lacking: serde_json::Map<String, Value> =
        tended.stripes.lacking.iter().map(|(margin, count)| (margin.to_string(), (*count).into())).collect();
    json!({
        "schema": "hodei.data.care.look/1", "bucket": bucket,
        "stripes": { "whole": tended.stripes.whole, "margins": lacking, "lost": tended.stripes.lost },
        "due_stripes": tended.due, "left_stripes": tended.left, "left_looks": tended.left_looks, "rank": tended.rank,
        "restored_stripes": tended.restored_stripes, "found_shards": tended.found_shards,
        "leaving_deals": tended.leaving_deals, "released_deals": tended.released_deals, "stays": tended.stays,
        "restored_shards": tended.restored_shards, "moved_shards": tended.moved_shards,
        "doubted_shards": tended.doubted_shards, "copies": tended.copies, "read_bytes": tended.read_bytes,
        "sent_bytes": tended.sent_bytes, "new_deals": tended.new_deals, "escrow_wei": tended.escrow.to_string(),
        "earned_wei": earned.to_string(),
        "failures": tended.failures,
    })
}

/// Words from files, each a line; empty lines and those that begin with # say nothing.
fn charges(files: &[impl AsRef<Path>]) -> Result<Vec<Charge>> {
    let mut charges = Vec::new();
    for file in files {
        let file = file.as_ref();
        let words = fs::read_to_string(file).map_err(|error| Fault::io(file, "reading the words", &error))?;
        let lines = words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for word in lines {
            let start: String = word.chars().take(12).collect();
            let charge = Charge::parse(word).ok_or_else(|| {
                Fault::new(&fault::CUSTODIAN, "that is no word of an owner's", "copy it whole, or ask for it again")
                    .between("one lower-case word that starts with hodeicare1", start)
                    .at(file.display())
            })?;
            if !charges.contains(&charge) {
                charges.push(charge);
            }
        }
    }
    match charges.is_empty() {
        true => Err(Fault::new(&fault::CUSTODIAN, "there is no word in it", "write the owners' words, one a line")),
        false => Ok(charges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_said_once_and_what_was_restored_by_its_stripes() {
        let failures = BTreeSet::from(["nobody offers 64 MiB".to_owned()]);
        let tended = Tended {
            due: 58,
            restored_shards: 39,
            restored_stripes: 27,
            failures: failures.clone(),
            ..Tended::default()
        };
        let first = text("ab", &tended, U256::ZERO, &BTreeSet::new());
        assert!(first.contains("39 shards of 27 stripes restored"), "{first}");
        assert!(first.ends_with("\n  not done: nobody offers 64 MiB"), "{first}");
        let again = text("ab", &tended, U256::ZERO, &failures);
        assert!(again.ends_with("; not done, as before") && !again.contains("64 MiB"), "{again}");
        let well = text("ab", &Tended::default(), U256::ZERO, &failures);
        assert!(!well.contains("not done"), "{well}");
    }

    #[test]
    fn a_look_says_of_what_it_moved_why() {
        let said = |moved_shards, doubted_shards| {
            let tended = Tended { moved_shards, doubted_shards, ..Tended::default() };
            text("ab", &tended, U256::ZERO, &BTreeSet::new())
        };
        let (leaves, missed) = ("5 shards moved from who leaves", "45 shards moved from who missed proofs");
        assert!(said(5, 0).contains(leaves) && !said(5, 0).contains("missed"));
        assert!(said(45, 45).contains(missed) && !said(45, 45).contains("leaves"));
        assert!(said(50, 45).contains(leaves) && said(50, 45).contains(missed));
    }
}
