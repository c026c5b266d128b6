//! Show what providers still hold of a bucket, put back what was lost with some of them, and even it out.

mod rebalance;
mod told;

use crate::{
    again,
    args::DataRepair,
    bucket::bucket_name,
    data::finish,
    fault::{self, Fault, Result},
    money,
    out::Out,
    session::{Session, sdk_fault},
    status::short,
};
use hodei_sdk::{
    Local,
    recode::Recoded,
    repair::{Ask, Ended, Repair, Survey},
};
use hodei_types::transport::NodeKey;
use std::sync::{Mutex, PoisonError};

/// `hodei data repair`.
pub(crate) async fn repair(args: &DataRepair, session: &Session, out: Out) -> Result<()> {
    if args.rebalance {
        return rebalance::rebalance(args, session, out).await;
    }
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let ask = Ask { without: without(&cloud, name, &args.without).await?, all: args.all };
    let found = look(&cloud, name, &ask, out).await?;
    let planned = cloud.plan_repair(name, found, &ask, args.windows).await.map_err(sdk_fault)?;
    let rate = again::rate(args.rate);
    out.result(told::survey_text(name, &planned.survey), &told::survey(name, &planned.survey));
    for line in told::assumed(&planned).into_iter().chain(told::plan_text(&planned, rate)) {
        out.say(line);
    }
    if planned.is_done() {
        out.say("Nothing is to be put back.");
    }
    // What is refused is not to be paid for, whether or not it can be put elsewhere.
    if !args.plan.dry_run {
        cloud.owe_declined(name, &planned.survey).await.map_err(sdk_fault)?;
    }
    if args.plan.dry_run || planned.is_done() {
        finish(&cloud, out).await;
        match args.plan.dry_run {
            true => out.result("", &told::plan(name, &planned)),
            false => {
                out.result("", &told::done(name, &planned, &Recoded::default(), &Ended::default(), &planned.survey))
            }
        }
        enough(name, &planned)?;
        readable(name, &planned.survey)?;
        out.next(match planned.is_done() {
            true => format!("hodei data list hodei://{name}"),
            false => format!("hodei data repair {name}"),
        });
        return Ok(());
    }
    if let Err(fault) = enough(name, &planned) {
        finish(&cloud, out).await;
        return Err(fault);
    }
    out.confirm(&format!("Put {} in escrow and begin?", money::show(planned.escrow())), args.plan.yes)?;
    let done = put_back(&cloud, name, &ask, &planned, rate, out).await;
    finish(&cloud, out).await;
    let (recoded, closed, now) = done?;
    out.result(
        told::done_text(name, &planned, &recoded, &closed, &now),
        &told::done(name, &planned, &recoded, &closed, &now),
    );
    readable(name, &now)?;
    again::whole(&recoded)?;
    out.next(match now.is_well() {
        true => format!("hodei data list hodei://{name}"),
        false => format!("hodei data repair {name}"),
    });
    Ok(())
}

/// The providers of a bucket that were named as gone.
async fn without(cloud: &Local, bucket: &str, named: &[String]) -> Result<Vec<NodeKey>> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let deals = cloud.deals(bucket).await.map_err(sdk_fault)?;
    let one = |text: &String| {
        let key = text.strip_prefix("node/").unwrap_or(text).trim_start_matches("0x").to_lowercase();
        let found: Vec<_> = deals.iter().map(|deal| deal.offer.node).collect();
        let found: Vec<_> = found.into_iter().filter(|node| node.to_string().starts_with(&key)).collect();
        match found.as_slice() {
            [node] => Ok(*node),
            others => {
                let help = format!("`hodei data repair {bucket} --dry-run` lists those of the bucket");
                Err(Fault::new(&fault::NO_PROVIDER, "no single provider of the bucket is meant by that", help).between(
                    "the first digits of one provider's key",
                    format!("{key:?}, which {} begin with", others.len()),
                ))
            }
        }
    };
    named.iter().map(one).collect()
}

async fn look(cloud: &Local, bucket: &str, ask: &Ask, out: Out) -> Result<Survey> {
    let progress = Mutex::new(None);
    let told = |done, total| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get_or_insert_with(|| out.progress(format!("look at {bucket}"), Some(total))).set(done);
    };
    cloud.survey(bucket, ask, told).await.map_err(sdk_fault)
}

/// Does it, and looks again.
async fn put_back(
    cloud: &Local,
    bucket: &str,
    ask: &Ask,
    planned: &Repair,
    rate: Option<u64>,
    out: Out,
) -> Result<(Recoded, Ended, Survey)> {
    cloud.begin_repair(bucket, planned).await.map_err(sdk_fault)?;
    out.say("Stopped at any point, the same command goes on.");
    let options = again::options(bucket, planned.survey.due_bytes, rate, out);
    let recoded = cloud.repair(bucket, planned, options).await.map_err(sdk_fault)?;
    again::release(cloud, &recoded, out).await?;
    let now = look(cloud, bucket, ask, out).await?;
    let closed = cloud.end_repair(bucket, planned, &now).await.map_err(sdk_fault)?;
    Ok((recoded, closed, now))
}

/// Refuses where nothing that is due can be stored, and where who answers is given up with what only they have.
fn enough(bucket: &str, planned: &Repair) -> Result<()> {
    let needed: Vec<String> = planned.needed().iter().map(|node| short(&node.to_string())).collect();
    if !needed.is_empty() {
        let message = format!("without {} some of it cannot be read, and they answer", needed.join(", "));
        let help = "leave --without of these out: what they have is put elsewhere where it is due";
        return Err(Fault::new(&fault::PLACEMENT, message, help));
    }
    let Some(few) = &planned.short else { return Ok(()) };
    let help = format!(
        "wait for those that are away, or for more providers: `hodei status` lists them; \
         `hodei data redundancy {bucket}` gives it a code that fewer can hold"
    );
    let message = format!("too few providers are left to put anything back: {few}");
    Err(Fault::new(&fault::PLACEMENT, message, help))
}

/// Names what cannot be read.
fn readable(bucket: &str, survey: &Survey) -> Result<()> {
    let lost = survey.lost();
    if lost == 0 {
        return Ok(());
    }
    let named: Vec<String> =
        survey.unreadable.iter().take(told::SHOWN).map(|one| format!("hodei://{bucket}/{}", one.key)).collect();
    let more = survey.unreadable_objects.saturating_sub(named.len() as u64);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let may_return = survey.unreadable.iter().any(|one| one.may_return);
    let help = match may_return {
        true => "providers that are away may bring some of it back: run the same command again then",
        false => "put these again from where they came, or remove them",
    };
    let message = format!(
        "{lost} stripes have too few shards to be read, in {} objects: {}{rest}",
        survey.unreadable_objects,
        named.join(", ")
    );
    Err(Fault::new(&fault::UNREADABLE, message, help))
}
