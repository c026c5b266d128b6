//! Share objects by links and passes, list these, take them back, and serve what others share.

mod create;
mod get;
mod open;
mod passes;
mod serve;

pub(crate) use create::{create, reader};
pub(crate) use get::get;
pub(crate) use open::open;
pub(crate) use passes::{FOLDER as PASSES, Passes};
pub(crate) use serve::serve;

use create::below;

use crate::{
    args::{ShareList, ShareRevoke},
    data::{finish, reference},
    fault::{self, Fault, Result},
    money,
    out::{Out, table},
    session::{Session, sdk_fault},
    time::{self, now_ms},
};
use alloy_primitives::U256;
use hodei_sdk::share::{Purchase, Share};
use hodei_types::share::{Link, LinkError, PREFIX};
use serde_json::json;

/// `hodei share list`.
pub(crate) async fn list(args: &ShareList, session: &Session, out: Out) -> Result<()> {
    let cloud = session.cloud().await?;
    let buckets = match args.bucket.as_deref() {
        Some(text) => vec![reference(text).map_or(text, |(bucket, _)| bucket).to_owned()],
        None => cloud.buckets().await.map_err(sdk_fault)?.into_iter().map(|record| record.name).collect(),
    };
    let (mut rows, now) = (Vec::new(), now_ms());
    for bucket in &buckets {
        for share in cloud.shares(bucket).await.map_err(sdk_fault)? {
            let has_expired = share.expires_ms <= now;
            let purchases = cloud.purchases(&share).await.map_err(sdk_fault)?;
            if out.json {
                out.result(
                    "",
                    &json!({
                        "schema": "hodei.share/1", "bucket": bucket, "key": share.key, "name": share.name(),
                        "made_ms": share.made_ms, "expires_ms": share.expires_ms, "expired": has_expired,
                        "prefix": share.is_below, "readers": share.readers,
                        "per_gib_wei": share.price.map(|(least, most)| [per_gib(least), per_gib(most)].map(|wei| wei.to_string())),
                        "payments": purchases.iter().map(|one| json!({
                            "tab": one.tab.to_string(), "bound_wei": one.bound.to_string(),
                            "claimed_wei": one.claimed.to_string(), "until_ms": one.until_ms, "open": one.is_open,
                        })).collect::<Vec<_>>(),
                    }),
                );
            } else {
                let until = if has_expired { "expired".into() } else { time::utc(share.expires_ms) };
                rows.push(vec![
                    share.name(),
                    shown(bucket, &share),
                    match share.readers.as_slice() {
                        [] => "anybody".into(),
                        [one] => one.clone(),
                        some => format!("{} and {} more", some[0], some.len() - 1),
                    },
                    time::utc(share.made_ms),
                    until,
                    paid(&share, &purchases),
                ]);
            }
        }
    }
    finish(&cloud, out).await;
    if !out.json {
        out.line(&if rows.is_empty() {
            "nothing is shared".into()
        } else {
            table(&["NAME", "OBJECT", "READERS", "MADE", "UNTIL", "READS"], &rows)
        });
    }
    Ok(())
}

/// Wei for a GiB, of those for a MiB.
fn per_gib(tick: u128) -> U256 {
    U256::from(tick) * U256::from(1024u64)
}

/// What reads by a share's passes cost, what is bound for them, and what providers claimed of it.
fn paid(share: &Share, purchases: &[Purchase]) -> String {
    let Some((least, most)) = share.price else { return "free".into() };
    let price = match least == most {
        true => money::show(per_gib(most)),
        false => format!("{} to {}", money::show(per_gib(least)), money::show(per_gib(most))),
    };
    let sum = |of: fn(&Purchase) -> U256| purchases.iter().map(of).sum::<U256>();
    let (claimed, bound) = (money::show(sum(|one| one.claimed)), money::show(sum(|one| one.bound)));
    let end = match purchases.iter().filter(|one| one.is_open).map(|one| one.until_ms).max() {
        Some(until_ms) => format!("the rest is bound till {}", time::utc(until_ms)),
        None => "the rest came back".into(),
    };
    format!("{price} per GiB, {claimed} of {bound} claimed, {end}")
}

/// What a share is of.
fn shown(bucket: &str, share: &Share) -> String {
    format!("hodei://{bucket}/{}{}", share.key, if share.is_below { "…" } else { "" })
}

/// `hodei share revoke`.
pub(crate) async fn revoke(args: &ShareRevoke, session: &Session, out: Out) -> Result<()> {
    let (bucket, key) = reference(&args.of).unwrap_or((&args.of, ""));
    let cloud = session.cloud().await?;
    let shares = cloud.shares(bucket).await.map_err(sdk_fault)?;
    let chosen = choose(&shares, key, &args.names, now_ms())?;
    if chosen.is_empty() {
        out.result(
            "nothing to take back",
            &json!({ "schema": "hodei.share.revoke/1", "bucket": bucket, "revoked": 0, "rekeyed": [] }),
        );
        return Ok(());
    }
    let mut keys: Vec<String> = Vec::new();
    for share in &chosen {
        out.say(format!("{}  {}", share.name(), shown(bucket, share)));
        if share.is_below && args.rekey {
            keys.extend(below(&cloud, bucket, &share.key).await?.into_iter().map(|(key, _)| key));
        } else {
            keys.push(share.key.clone());
        }
    }
    keys.sort_unstable();
    keys.dedup();
    if args.rekey {
        out.say(format!("{} objects are stored again under new keys", keys.len()));
    }
    let names: Vec<String> = chosen.iter().map(|share| share.name()).collect();
    if args.plan.dry_run {
        out.result(
            "",
            &json!({ "schema": "hodei.share.revoke.plan/1", "bucket": bucket, "names": names, "rekey": args.rekey }),
        );
        return Ok(());
    }
    out.confirm(&format!("Take {} links back?", chosen.len()), args.plan.yes)?;
    let records: Vec<_> = chosen.iter().map(|share| share.record).collect();
    let revoked = cloud.unshare(bucket, &records).await.map_err(sdk_fault)?;
    let mut rekeyed = Vec::new();
    if args.rekey {
        for key in keys {
            match cloud.rekey(bucket, &key).await {
                Ok(_) => rekeyed.push(key),
                // It was removed since: there is nothing to protect.
                Err(hodei_sdk::Fault::NoObject { .. }) => {}
                Err(error) => {
                    finish(&cloud, out).await;
                    return Err(sdk_fault(error));
                }
            }
        }
    }
    finish(&cloud, out).await;
    let again = if rekeyed.is_empty() { String::new() } else { format!("; {} objects have new keys", rekeyed.len()) };
    out.result(
        format!("took {revoked} links back{again}"),
        &json!({ "schema": "hodei.share.revoke/1", "bucket": bucket, "revoked": revoked, "names": names, "rekeyed": rekeyed }),
    );
    Ok(())
}

/// Which shares are meant: by name, by object, or those that expired.
fn choose<'a>(shares: &'a [Share], key: &str, names: &[String], now_ms: u64) -> Result<Vec<&'a Share>> {
    for name in names {
        if !shares.iter().any(|share| share.name() == *name) {
            let known: Vec<String> = shares.iter().map(Share::name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Fault::new(&fault::LINK, "the bucket has no such share", "`hodei share list` lists them")
                .between(known, name));
        }
    }
    let of_key = |share: &&Share| key.is_empty() || share.key == key;
    let is_meant = |share: &&Share| match (names.is_empty(), key.is_empty()) {
        (false, _) => names.contains(&share.name()),
        (true, false) => true,
        (true, true) => share.expires_ms <= now_ms,
    };
    Ok(shares.iter().filter(of_key).filter(is_meant).collect())
}

/// A link as it is passed on: the word alone, or behind a gateway's address.
fn parse(text: &str) -> Result<Link> {
    let word = match text.find(&format!("{PREFIX}1")) {
        Some(at) => text[at..].split(['/', '?', '#']).next().unwrap_or_default(),
        None => text,
    };
    word.parse().map_err(|error: LinkError| {
        let start: String = text.chars().take(24).collect();
        Fault::new(&fault::LINK, error, "copy it whole, or ask for a new one").between("…/s/hodeishare1…", start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::slice::ShardId;

    #[test]
    fn shares_are_chosen_by_name_object_or_age() {
        let share = |at: u8, key: &str, expires_ms| Share {
            record: ShardId([at; 32]),
            key: key.into(),
            is_below: false,
            readers: Vec::new(),
            made_ms: 0,
            expires_ms,
            price: None,
        };
        let shares = [share(1, "a", 10), share(2, "a", 90), share(3, "b", 90)];
        let names = |key: &str, names: &[&str]| -> Vec<u8> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(&shares, key, &names, 50).unwrap().iter().map(|share| share.record.0[0]).collect()
        };
        assert_eq!(names("", &[]), [1], "what expired");
        assert_eq!(names("a", &[]), [1, 2]);
        assert_eq!(names("", &["030303030303"]), [3]);
        assert_eq!(choose(&shares, "", &["04".into()], 50).unwrap_err().code.id, "HD3009");
    }

    #[test]
    fn what_reads_cost_is_told_with_what_was_claimed_of_it() {
        let share = |price| Share {
            record: ShardId([1; 32]),
            key: "a".into(),
            is_below: false,
            readers: vec!["00".repeat(8); 2],
            made_ms: 0,
            expires_ms: 9,
            price,
        };
        let coin = 1_000_000_000_000_000_000u128;
        let one = |claimed: u128, is_open| Purchase {
            tab: alloy_primitives::B256::ZERO,
            bound: U256::from(2 * coin),
            claimed: U256::from(claimed),
            until_ms: 0,
            is_open,
        };
        assert_eq!(paid(&share(None), &[]), "free");
        let told = paid(&share(Some((coin / 1024, coin / 1024))), &[one(coin / 2, true), one(coin, false)]);
        assert!(told.starts_with("1 hod per GiB, 1.5 hod of 4 hod claimed, the rest is bound till 1970"), "{told}");
        let told = paid(&share(Some((coin / 1024, coin / 512))), &[one(0, false)]);
        assert_eq!(told, "1 hod to 2 hod per GiB, 0 hod of 2 hod claimed, the rest came back");
    }

    #[test]
    fn a_word_is_found_behind_any_gateway() {
        let fault = parse("https://files.example/s/hodeishare1qqqq/a.jpg").unwrap_err();
        assert!(fault.message.contains("checksum"), "{fault}");
        assert_eq!(parse("https://files.example/a.jpg").unwrap_err().code.id, "HD3009");
    }
}
