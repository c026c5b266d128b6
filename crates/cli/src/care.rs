//! Let others restore what a bucket loses, and pay them for it.

mod release;
mod run;
mod wage;

pub(crate) use release::release;
pub(crate) use run::run;
pub(crate) use wage::wage;

use crate::{
    args::{CareAppoint, CareDismiss, CareShow, CareWithdraw},
    bucket::bucket_name,
    data::finish,
    earnings::counted,
    fault::{self, Fault, Result},
    money,
    out::Out,
    paths::write_whole,
    session::{Session, sdk_fault},
};
use alloy_primitives::U256;
use hodei_sdk::Local;
use serde_json::{Map, Value, json};
use std::fs;

/// What a change takes from the account that pays.
struct Cost {
    /// Wei that go elsewhere, and wei of fees at most, of so many transactions.
    wei: U256,
    fees: U256,
    changes: u64,
    /// Wei that there are.
    has: U256,
}

impl Cost {
    async fn of(cloud: &Local, wei: U256, changes: u64) -> Result<Self> {
        let fees = cloud.care_fees(changes).await.map_err(sdk_fault)?;
        let has = cloud.wallet().budget().await.map_err(sdk_fault)?.left;
        Ok(Self { wei, fees, changes, has })
    }

    /// Whether there is enough of it.
    fn is_covered(&self) -> bool {
        self.wei.saturating_add(self.fees) <= self.has
    }

    fn text(&self, label: &str) -> Vec<String> {
        let mut lines = vec![match self.changes {
            0 => format!("{label}none: nothing is changed"),
            changes => format!("{label}at most {}, of {}", money::show(self.fees), counted(changes, "transaction")),
        }];
        if !self.is_covered() {
            lines.push(format!(
                "note: this takes up to {}, and there are {}: it would be refused; `hodei wallet balance` shows the account",
                money::exact(self.wei.saturating_add(self.fees)),
                money::exact(self.has)
            ));
        }
        lines
    }

    fn tell(&self, label: &str, out: Out) {
        self.text(label).into_iter().for_each(|line| out.say(line));
    }

    /// For programs.
    fn add_to(&self, plan: &mut Value) {
        plan["fee_wei"] = self.fees.to_string().into();
        plan["balance_wei"] = self.has.to_string().into();
        plan["is_covered"] = self.is_covered().into();
    }
}

/// `hodei data care appoint`.
pub(crate) async fn appoint(args: &CareAppoint, session: &Session, out: Out) -> Result<()> {
    let (name, account) = (bucket_name(&args.bucket)?, money::account(&args.account)?);
    let reserve = money::parse(&args.reserve)?;
    let pay = args.per_gib.as_deref().zip(args.a_day.as_deref());
    let pay = pay.map(|(per_gib, a_day)| wage::parse(per_gib, a_day)).transpose()?;
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
    if before.may_release {
        out.say("            but end deals with providers that leave: `hodei data care release` allowed it");
    }
    out.say(format!(
        "reserve:    {} now, {} more: what custodians may put into new deals of this bucket, and are paid of",
        money::show(before.reserve),
        money::show(reserve)
    ));
    let now = if pay.is_some_and(|pay| pay != before.wage) { "from now on" } else { "as before" };
    let pay_then = pay.unwrap_or(before.wage);
    out.say(format!("wage:       {}, {now}", wage::text(&pay_then)));
    let changes = [!before.custodians.contains(&account), pay_then != before.wage, !reserve.is_zero()];
    let cost = Cost::of(&cloud, reserve, changes.into_iter().filter(|is_one| *is_one).count() as u64).await?;
    cost.tell("fees:       ", out);
    if args.plan.dry_run {
        finish(&cloud, out).await;
        let mut plan = json!({
            "schema": "hodei.data.care.appoint.plan/1", "bucket": name, "account": account.to_string(),
            "reserve_wei": reserve.to_string(), "reserve_before_wei": before.reserve.to_string(),
            "wage": wage::told(&pay_then), "wage_before": wage::told(&before.wage),
        });
        cost.add_to(&mut plan);
        out.result("", &plan);
        return Ok(());
    }
    out.confirm(&format!("Appoint it, and put {} into the reserve?", money::show(reserve)), args.plan.yes)?;
    let word = cloud.charge(name).await.map_err(sdk_fault)?.text();
    // Before anything is paid: without the word nobody could look after it.
    if let Some(file) = &args.out {
        write_whole(file, format!("{}\n", *word).as_bytes(), 0o600)?;
    }
    if let Err(error) = cloud.appoint(name, account, pay, reserve).await {
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
            "reserve_wei": (before.reserve + reserve).to_string(), "wage": wage::told(&pay_then),
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
        false => format!("hodei://{name} is looked after by"),
    };
    for (custodian, wei) in custodians.iter().zip(&found.earned) {
        text.push_str(&format!("\n  {custodian}, paid {} so far", money::exact(*wei)));
    }
    text.push_str(&format!("\nwage: {}", wage::text(&found.wage)));
    if found.paid_today > 0 {
        text.push_str(&format!("; paid today: {}", money::exact(U256::from(found.paid_today))));
    }
    text.push_str(&format!(
        "\nreserve: {}\nshards that lie elsewhere than they were put, restored there by custodians or brought to even it out: {}",
        money::exact(found.reserve),
        found.elsewhere
    ));
    if found.may_release {
        text.push_str("\nthey may end its deals with providers that leave");
    }
    let earned: Map<String, Value> = custodians
        .iter()
        .zip(&found.earned)
        .map(|(custodian, wei)| (custodian.clone(), wei.to_string().into()))
        .collect();
    out.result(
        text,
        &json!({
            "schema": "hodei.data.care/1", "bucket": name, "custodians": custodians,
            "earned_wei": earned, "wage": wage::told(&found.wage), "paid_today_wei": found.paid_today.to_string(),
            "reserve_wei": found.reserve.to_string(), "restored_shards": found.restored,
            "elsewhere_shards": found.elsewhere,
             "may_release": found.may_release,
        }),
    );
    Ok(())
}

/// `hodei data care dismiss`.
pub(crate) async fn dismiss(args: &CareDismiss, session: &Session, out: Out) -> Result<()> {
    let (name, account) = (bucket_name(&args.bucket)?, money::account(&args.account)?);
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    let mut named = found.custodians.iter().zip(&found.earned);
    let Some((_, earned)) = named.find(|(custodian, _)| **custodian == account) else {
        finish(&cloud, out).await;
        let help = format!("`hodei data care show {name}` names those who do");
        return Err(Fault::new(&fault::CUSTODIAN, format!("{account} does not look after hodei://{name}"), help));
    };
    out.say(format!("It was paid {} in all.", money::exact(*earned)));
    out.say("What it restored stays where it is. It keeps the word you gave it, which alone lets it do nothing.");
    let cost = Cost::of(&cloud, U256::ZERO, 1).await?;
    cost.tell("fees: ", out);
    let mut plan = json!({
        "schema": "hodei.data.care.dismiss.plan/1", "bucket": name, "account": account.to_string(),
        "earned_wei": earned.to_string(),
    });
    if args.plan.dry_run {
        finish(&cloud, out).await;
        cost.add_to(&mut plan);
        out.result("", &plan);
        return Ok(());
    }
    out.confirm(&format!("Dismiss {account}?"), args.plan.yes)?;
    plan["schema"] = "hodei.data.care.dismiss/1".into();
    cloud.dismiss(name, account).await.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    out.result(format!("{account} looks after hodei://{name} no more"), &plan);
    Ok(())
}

/// `hodei data care withdraw`.
pub(crate) async fn withdraw(args: &CareWithdraw, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    out.say(format!("reserve of hodei://{name}: {}", money::exact(found.reserve)));
    let cost = Cost::of(&cloud, U256::ZERO, u64::from(!found.reserve.is_zero())).await?;
    cost.tell("fees: ", out);
    if args.plan.dry_run {
        finish(&cloud, out).await;
        let wei = found.reserve.to_string();
        let mut plan = json!({ "schema": "hodei.data.care.withdraw.plan/1", "bucket": name, "wei": wei });
        cost.add_to(&mut plan);
        out.result("", &plan);
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
    out.say("It pays the fees of what it does from what it holds; new deals, and its wage, come from each bucket's reserve.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_costs_is_told_and_whether_it_is_there() {
        let coins = |text: &str| money::parse(text).unwrap();
        let mut cost = Cost { wei: coins("20"), fees: coins("0.01"), changes: 3, has: coins("20.01") };
        assert_eq!(cost.text("fees: "), ["fees: at most 0.01 hod, of 3 transactions"]);
        cost.has = coins("20");
        let lines = cost.text("fees: ");
        assert!(lines.len() == 2 && lines[1].contains("20.01 hod, and there are 20 hod"), "{lines:?}");
        let mut plan = json!({});
        cost.add_to(&mut plan);
        assert_eq!((&plan["is_covered"], &plan["fee_wei"]), (&false.into(), &"10000000000000000".into()));
        let nothing = Cost { wei: U256::ZERO, fees: U256::ZERO, changes: 0, has: U256::ZERO };
        assert_eq!(nothing.text("fees: "), ["fees: none: nothing is changed"]);
    }
}
