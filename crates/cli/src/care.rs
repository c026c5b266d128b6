//! Let others restore what a bucket loses, and look after the buckets of others.

use crate::{
    again,
    args::{CareAppoint, CareDismiss, CareRun, CareShow, CareWithdraw},
    bucket::bucket_name,
    data::finish,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    paths::write_whole,
    serve::stopped,
    session::{Session, sdk_fault},
    status::short,
};
use hodei_sdk::{
    Local,
    custody::{Charge, Notes, Tended},
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

/// `hodei data care appoint`.
pub(crate) async fn appoint(args: &CareAppoint, session: &Session, out: Out) -> Result<()> {
    let (name, account) = (bucket_name(&args.bucket)?, money::account(&args.account)?);
    let reserve = money::parse(&args.reserve)?;
    if let Some(file) = args.out.as_deref().filter(|file| file.exists()) {
        return Err(Fault::new(&fault::USAGE, "the file is there already", "name one that is not").at(file.display()));
    }
    let cloud = session.cloud().await?;
    let before = cloud.custody(name).await.map_err(sdk_fault)?;
    if account.is_zero() || account == cloud.wallet().owner() {
        let help = "name somebody else's, as `hodei data care account` shows it there";
        return Err(Fault::new(
            &fault::USAGE,
            "the owner of a bucket needs no appointment, and nobody cannot have one",
            help,
        ));
    }
    out.say(format!("bucket:     hodei://{name}"));
    out.say(format!("custodian:  {account} (of {} now)", before.custodians.len()));
    out.say("it can:     read shards, which are sealed, make lost ones again, and add them to deals");
    out.say("it cannot:  read names or contents, write, remove or end anything; it sees sizes, and when they change");
    out.say(format!(
        "reserve:    {} now, {} more: what custodians may put into new deals of this bucket, and nothing else",
        money::show(before.reserve),
        money::show(reserve)
    ));
    if args.plan.dry_run {
        finish(&cloud, out).await;
        out.result(
            "",
            &json!({
                "schema": "hodei.data.care.appoint.plan/1", "bucket": name, "account": account.to_string(),
                "reserve_wei": reserve.to_string(), "reserve_before_wei": before.reserve.to_string(),
            }),
        );
        return Ok(());
    }
    out.confirm(&format!("Appoint it, and put {} into the reserve?", money::show(reserve)), args.plan.yes)?;
    let word = cloud.charge(name).await.map_err(sdk_fault)?.text();
    // Before anything is paid: without the word nobody could look after it.
    if let Some(file) = &args.out {
        write_whole(file, format!("{}\n", *word).as_bytes(), 0o600)?;
    }
    if let Err(error) = cloud.appoint(name, account, reserve).await {
        finish(&cloud, out).await;
        if let Some(file) = &args.out {
            let _ = fs::remove_file(file);
        }
        return Err(sdk_fault(error));
    }
    finish(&cloud, out).await;
    let shown = match &args.out {
        Some(file) => format!("the word for the custodian is in {}", file.display()),
        None => word.to_string(),
    };
    out.result(
        shown,
        &json!({
            "schema": "hodei.data.care.appoint/1", "bucket": name, "account": account.to_string(),
            "reserve_wei": (before.reserve + reserve).to_string(),
            "word": args.out.is_none().then(|| word.to_string()), "file": args.out,
        }),
    );
    out.say("Give that word to the custodian alone: it takes the pads off shards, and opens nothing.");
    out.next("there: hodei data care run FILE   (the word is a line of that file)");
    Ok(())
}

/// `hodei data care show`.
pub(crate) async fn show(args: &CareShow, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    let custodians: Vec<String> = found.custodians.iter().map(ToString::to_string).collect();
    let mut text = match custodians.is_empty() {
        true => format!("nobody looks after hodei://{name}: what it loses is put back by `hodei data repair`"),
        false => format!("hodei://{name} is looked after by\n  {}", custodians.join("\n  ")),
    };
    text.push_str(&format!(
        "\nreserve: {}; shards restored elsewhere: {}",
        money::exact(found.reserve),
        found.restored
    ));
    out.result(
        text,
        &json!({
            "schema": "hodei.data.care/1", "bucket": name, "custodians": custodians,
            "reserve_wei": found.reserve.to_string(), "restored_shards": found.restored,
        }),
    );
    Ok(())
}

/// `hodei data care dismiss`.
pub(crate) async fn dismiss(args: &CareDismiss, session: &Session, out: Out) -> Result<()> {
    let (name, account) = (bucket_name(&args.bucket)?, money::account(&args.account)?);
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    if !found.custodians.contains(&account) {
        finish(&cloud, out).await;
        let help = format!("`hodei data care show {name}` names those who do");
        return Err(Fault::new(&fault::CUSTODIAN, format!("{account} does not look after hodei://{name}"), help));
    }
    out.say("What it restored stays where it is. It keeps the word you gave it, which alone lets it do nothing.");
    let plan = json!({ "schema": "hodei.data.care.dismiss.plan/1", "bucket": name, "account": account.to_string() });
    if args.plan.dry_run {
        finish(&cloud, out).await;
        out.result("", &plan);
        return Ok(());
    }
    out.confirm(&format!("Dismiss {account}?"), args.plan.yes)?;
    cloud.dismiss(name, account).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    out.result(
        format!("{account} looks after hodei://{name} no more"),
        &json!({ "schema": "hodei.data.care.dismiss/1", "bucket": name, "account": account.to_string() }),
    );
    Ok(())
}

/// `hodei data care withdraw`.
pub(crate) async fn withdraw(args: &CareWithdraw, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    out.say(format!("reserve of hodei://{name}: {}", money::exact(found.reserve)));
    if args.plan.dry_run {
        finish(&cloud, out).await;
        let wei = found.reserve.to_string();
        out.result("", &json!({ "schema": "hodei.data.care.withdraw.plan/1", "bucket": name, "wei": wei }));
        return Ok(());
    }
    out.confirm("Take it back?", args.plan.yes)?;
    let wei = cloud.withdraw_reserve(name).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    out.result(
        format!("took {} back", money::exact(wei)),
        &json!({ "schema": "hodei.data.care.withdraw/1", "bucket": name, "wei": wei.to_string() }),
    );
    Ok(())
}

/// `hodei data care account`.
pub(crate) fn account(session: &Session, out: Out) -> Result<()> {
    let account = session.wallet()?.spender().address().to_string();
    out.result(&account, &json!({ "schema": "hodei.data.care.account/1", "account": account }));
    out.say("It pays the fees of what it does from what it holds; new deals come from each bucket's reserve.");
    Ok(())
}

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
    out.result(text(&bucket, &tended), &told(&bucket, &tended));
    match tended.failures.first() {
        Some(why) => {
            let help = "the lines above say what stays; the next look tries again";
            Err(Fault::new(&fault::UNREADABLE, format!("not everything was restored: {why}"), help).at(bucket))
        }
        None => Ok(tended.left),
    }
}

fn text(bucket: &str, tended: &Tended) -> String {
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
    for why in &tended.failures {
        text.push_str(&format!("\n  not done: {why}"));
    }
    text
}

fn told(bucket: &str, tended: &Tended) -> Value {
    let lacking: serde_json::Map<String, Value> =
        tended.stripes.lacking.iter().map(|(margin, count)| (margin.to_string(), (*count).into())).collect();
    json!({
        "schema": "hodei.data.care.look/1", "bucket": bucket,
        "stripes": { "whole": tended.stripes.whole, "margins": lacking, "lost": tended.stripes.lost },
        "due_stripes": tended.due, "left_stripes": tended.left, "restored_stripes": tended.restored_stripes,
        "restored_shards": tended.restored_shards, "moved_shards": tended.moved_shards, "copies": tended.copies, "read_bytes": tended.read_bytes,
        "sent_bytes": tended.sent_bytes, "new_deals": tended.new_deals, "escrow_wei": tended.escrow.to_string(),
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
