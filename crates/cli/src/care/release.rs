//! Say whether those who look after a bucket may end its deals with providers that leave.

use crate::{
    args::{CareRelease, Release},
    bucket::bucket_name,
    data::finish,
    fault::Result,
    out::Out,
    session::{Session, sdk_fault},
};
use serde_json::json;

/// `hodei data care release`.
pub(crate) async fn release(args: &CareRelease, session: &Session, out: Out) -> Result<()> {
    let name = bucket_name(&args.bucket)?;
    let may = args.whether == Release::Allow;
    let cloud = session.cloud().await?;
    let found = cloud.custody(name).await.map_err(sdk_fault)?;
    out.say(format!("bucket:     hodei://{name}, looked after by {}", found.custodians.len()));
    out.say(match may {
        true => "they may:   end its deals with providers that retired, once others have all that lies there",
        false => "they may:   end no deal of it: those with providers that retire wait for your `data repair`",
    });
    if may {
        out.say(
            "the risk:   the ledger cannot tell what others have: in league with providers that retire a custodian can",
        );
        out.say(
            "            end what they hold, and nobody is slashed for it. What is left of escrows goes to its reserve.",
        );
    }
    let mut plan = json!({
        "schema": "hodei.data.care.release.plan/1", "bucket": name, "allowed": may, "allowed_before": found.may_release,
    });
    if args.plan.dry_run {
        finish(&cloud, out).await;
        out.result("", &plan);
        return Ok(());
    }
    out.confirm("Set it?", args.plan.yes)?;
    let set = cloud.set_release(name, may).await.map_err(sdk_fault);
    finish(&cloud, out).await;
    set?;
    plan["schema"] = "hodei.data.care.release/1".into();
    let text = match may {
        true => format!("who looks after hodei://{name} may let providers go that leave"),
        false => format!("who looks after hodei://{name} may end no deal of it"),
    };
    out.result(text, &plan);
    out.next(format!("hodei data care show {name}"));
    Ok(())
}
