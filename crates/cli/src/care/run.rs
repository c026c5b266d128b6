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
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    custody::{Charge, Notes, Tended},
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

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
        let mut kept: Vec<Notes> = charges.iter().map(|_| Notes::default()).collect();
        loop {
            let (mut unwell, mut left) = (None, 0);
            for (charge, notes) in charges.iter().zip(&mut kept) {
                match tend(&cloud, charge, notes, args, out).await {
                    Ok(more) => left += more,
                    Err(fault) => unwell = Some(fault),
                }
            }
            if args.once && (left == 0 || unwell.is_some()) {
                return unwell.map_or(Ok(()), Err);
            }
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

/// One look at one bucket: how many stripes it left for the next. What failed is told, and is an error to who does not
/// go on looking.
async fn tend(cloud: &Local, charge: &Charge, notes: &mut Notes, args: &CareRun, out: Out) -> Result<u64> {
    let bucket = charge.bucket.to_string();
    let tended = match cloud.tend(charge, notes, again::rate(args.rate)).await {
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
    out.result(text(&bucket, &tended, earned), &told(&bucket, &tended, earned));
    match tended.failures.first() {
        Some(why) => {
            let help = "the lines above say what stays; the next look tries again";
            Err(Fault::new(&fault::UNREADABLE, format!("not everything was restored: {why}"), help).at(bucket))
        }
        None => Ok(tended.left),
    }
}

fn text(bucket: &str, tended: &Tended, earned: U256) -> String {
    let mut text = format!("{}: {} stripes, {} due", short(bucket), tended.stripes.all(), tended.due);
    if tended.restored_shards > 0 {
        text.push_str(&format!(", {} shards of {} restored", tended.restored_shards, tended.restored_stripes));
    }
    if tended.moved_shards > 0 {
        text.push_str(&format!(", {} shards moved from who leaves", tended.moved_shards));
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
    for (count, what) in [(tended.copies, "copies of pages made"), (tended.left, "left for the next look")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if !earned.is_zero() {
        text.push_str(&format!(", {} earned so far", money::show(earned)));
    }
    for why in &tended.failures {
        text.push_str(&format!("\n  not done: {why}"));
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
        "due_stripes": tended.due, "left_stripes": tended.left, "restored_stripes": tended.restored_stripes,
        "restored_shards": tended.restored_shards, "moved_shards": tended.moved_shards, "copies": tended.copies, "read_bytes": tended.read_bytes,
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
