//! Set what those who look after a bucket are paid.

use super::Cost;
use crate::{
    args::CareWage,
    bucket::bucket_name,
    data::finish,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    session::{Session, sdk_fault},
};
use alloy_primitives::U256;
use hodei_sdk::custody::Wage;
use serde_json::{Value, json};

/// `hodei data care wage`.
pub(crate) async fn wage(args: &CareWage, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let wage = parse(&args.per_gib, &args.a_day)?;
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    out.say(format!("bucket:     hodei://{name}, looked after by {}", found.custodians.len()));
    out.say(format!("wage:       {} from now on; it was {}", text(&wage), text(&found.wage)));
    out.say(format!("reserve:    {}, of which it is paid as long as there is any", money::exact(found.reserve)));
    let cost = Cost::of(&cloud, U256::ZERO, u64::from(wage != found.wage)).await?;
    cost.tell("fees:       ", out);
    let mut plan = json!({
        "schema": "hodei.data.care.wage.plan/1", "bucket": name, "wage": told(&wage), "wage_before": told(&found.wage),
        "reserve_wei": found.reserve.to_string(),
    });
    if args.plan.dry_run {
        finish(&cloud, out).await;
        cost.add_to(&mut plan);
        out.result("", &plan);
        return Ok(());
    }
    out.confirm("Set it?", args.plan.yes)?;
    let set = cloud.set_wage(name, wage).await.map_err(sdk_fault);
    finish(&cloud, out).await;
    set?;
    plan["schema"] = "hodei.data.care.wage/1".into();
    out.result(format!("wage of who looks after hodei://{name}: {}", text(&wage)), &plan);
    out.next(format!("hodei data care show {name}"));
    Ok(())
}

/// A wage as typed.
pub(super) fn parse(per_gib: &str, per_day: &str) -> Result<Wage> {
    let coins = |text: &str| {
        u128::try_from(money::parse(text)?).map_err(|_| {
            Fault::new(&fault::USAGE, "that is more than there can be of coins", "write coins as 1 or 0.25")
                .between("less than 2^128 wei", format!("{text:?}"))
        })
    };
    Ok(Wage { per_gib: coins(per_gib)?, per_day: coins(per_day)? })
}

/// A wage for people.
pub(super) fn text(wage: &Wage) -> String {
    let coins = |wei: u128| money::show(U256::from(wei));
    match wage.day_bytes() {
        None => "none".into(),
        Some(most) => format!(
            "{} for each GiB added, at most {} a day, which is {}",
            coins(wage.per_gib),
            coins(wage.per_day),
            bytes(most)
        ),
    }
}

/// A wage for programs.
pub(super) fn told(wage: &Wage) -> Value {
    json!({ "per_gib_wei": wage.per_gib.to_string(), "per_day_wei": wage.per_day.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wage_says_what_its_day_pays_for() {
        let wage = parse("0.01", "0.5").unwrap();
        assert_eq!(text(&wage), "0.01 hod for each GiB added, at most 0.5 hod a day, which is 50.0 GiB");
        assert_eq!(told(&wage)["per_gib_wei"], "10000000000000000");
        assert_eq!(text(&parse("0", "5").unwrap()), "none");
        let fault = parse(&"9".repeat(39), "1").unwrap_err();
        assert_eq!(fault.expected.as_deref(), Some("less than 2^128 wei"));
    }
}
