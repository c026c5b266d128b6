//! Make links and passes, and say whom passes are for.

use crate::{
    args::ShareCreate,
    data::{finish, object, reference},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    session::{Session, sdk_fault},
    time::{self, now_ms},
};
use alloy_primitives::U256;
use hodei_sdk::{
    Local,
    index::Version,
    object::PAGE_MAX,
    share::{BYTES_EACH_MAX, Fees, Sold, What, brief},
};
use hodei_types::{network::mark, share::Reader, transport::NodeKey};
use serde_json::json;

/// Ten years: longer is a mistake, or for ever, and nothing is.
const EXPIRES_SECS_MAX: u64 = 3650 * 86_400;

/// `hodei share create`.
pub(crate) async fn create(args: &ShareCreate, session: &Session, out: Out) -> Result<()> {
    let is_below = args.prefix || args.object.ends_with('/');
    let (bucket, key) = match reference(&args.object) {
        Some((bucket, key)) if is_below && !bucket.is_empty() => (bucket, key),
        _ => object(&args.object)?,
    };
    if is_below && args.version.is_some() {
        let help = "name one object to share a version of it";
        return Err(Fault::new(&fault::USAGE, "a folder is shared as it is now, not in a version", help));
    }
    let secs = duration(&args.expires)?;
    let version = args.version.as_deref().map(version).transpose()?;
    let readers = readers(&args.readers, session)?;
    let base = if readers.is_empty() { gateway(args.gateway.as_deref(), session)? } else { None };
    let cloud = session.owner_cloud().await?;
    let what = if is_below { What::Below(key) } else { What::Object { key, version } };
    let (objects, size) = extent(&cloud, bucket, what).await?;
    let expires_ms = now_ms() + secs * 1000;
    let which = if is_below { format!("{objects} objects below ") } else { String::new() };
    let until = time::utc(expires_ms);
    out.say(format!("object:   {which}hodei://{bucket}/{key}, {} (as it is now, whatever is put later)", bytes(size)));
    match readers.as_slice() {
        [] => out.say(format!("readers:  whoever has the link, until {until}")),
        [one] => out.say(format!("readers:  {} alone, until {until}", brief(one))),
        some => out.say(format!("readers:  these {}, each by a pass of its own, until {until}", some.len())),
    }
    let fees = fees(args, &cloud, bucket, expires_ms).await?;
    let bound = fees.as_ref().map(|fees| fees.deposit.saturating_mul(U256::from(readers.len())));
    let is_short = fees.as_ref().is_some_and(|fees| fees.paid_bytes() < size);
    if let (Some(fees), Some(bound)) = (&fees, bound) {
        let paid = fees.paid_bytes();
        out.say(format!(
            "paid:     {} for each reader, {} in all, bound now: {} of reads, {} times what is shared",
            money::show(fees.deposit),
            money::show(bound),
            bytes(paid),
            times(paid, size)
        ));
        if !fees.away.is_empty() {
            out.say(format!(
                "away:     {} of the bucket's providers do not answer: least is bound there, {} of reads beside those \
                 above, which are read once they are back and else return",
                fees.away.len(),
                bytes(fees.held_bytes())
            ));
        }
        if fees.is_capped {
            out.say(format!(
                "cap:      a provider takes no more than {} of reads of one tab: only those coins are bound",
                bytes(BYTES_EACH_MAX)
            ));
        }
        if is_short {
            // Where all are away it costs what it does at those.
            let read = if paid > 0 { paid } else { fees.held_bytes().max(1) };
            let all = fees.deposit.saturating_mul(U256::from(size)) / U256::from(read);
            out.say(format!(
                "warning:  that pays for less than what is shared: a reader is refused on the way. All of it once costs {} \
                 and some more, for what comes late is paid too",
                money::show(all)
            ));
        }
        let end = time::utc(now_ms() + fees.term_ms);
        out.say(format!("returns:  what no provider claimed by {end}, to this account, with a command after that"));
    }
    out.say("revoked:  by `hodei share revoke`; what somebody read before stays with them");
    out.say("kept:     until then, and paid for, even if its name is overwritten or removed");
    if args.plan.dry_run {
        out.result(
            "",
            &json!({
                "schema": "hodei.share.create.plan/1", "bucket": bucket, "key": key, "size_bytes": size,
                "expires_ms": expires_ms, "prefix": is_below, "objects": objects, "readers": readers.len(),
                "deposit_wei": bound.map(|wei| wei.to_string()),
                "paid_bytes": fees.as_ref().map(|fees| fees.paid_bytes()),
                "away": fees.as_ref().map(|fees| fees.away.len()),
                "held_bytes": fees.as_ref().map(|fees| fees.held_bytes()),
                "capped": fees.as_ref().map(|fees| fees.is_capped), "short": fees.as_ref().map(|_| is_short),
                "paid_bytes_each_most": fees.as_ref().map(|_| BYTES_EACH_MAX),
                "returns_ms": fees.as_ref().map(|fees| now_ms() + fees.term_ms),
            }),
        );
        return Ok(());
    }
    out.confirm(if readers.is_empty() { "Make the link?" } else { "Make the passes?" }, args.plan.yes)?;
    let made = match &fees {
        Some(fees) => cloud.sell(bucket, what, &readers, expires_ms, fees).await,
        None => cloud.share(bucket, what, &readers, expires_ms).await.map(|links| Sold { links, failed: None }),
    };
    let Sold { links: made, failed } = made.map_err(sdk_fault)?;
    finish(&cloud, out).await;
    for link in &made {
        let word = link.text();
        let end = if is_below { "/" } else { "" };
        let shown = base.as_ref().map_or_else(|| word.to_string(), |base| format!("{base}/s/{}{end}", *word));
        out.result(
            &shown,
            &json!({
                "schema": "hodei.share.create/1", "bucket": bucket, "key": key, "size_bytes": size,
                "name": link.name(), "expires_ms": expires_ms, "link": shown, "word": *word, "prefix": is_below,
                "objects": objects, "reader": link.reader.map(|reader| reader.to_string()),
                "tab": link.purse.map(|purse| purse.tab.to_string()),
                "deposit_wei": fees.as_ref().map(|fees| fees.deposit.to_string()),
            }),
        );
    }
    if let Some(link) = made.first() {
        let (it, is) = if made.len() > 1 { ("They are", "them") } else { ("It is", "it") };
        out.say(format!("{it} shown this once. To take {is} back: hodei share revoke {bucket} {}", link.name()));
    }
    match failed {
        None => Ok(()),
        Some(error) => {
            out.say(format!("Made for the first {} of {} readers: name the others again.", made.len(), readers.len()));
            Err(sdk_fault(error))
        }
    }
}

/// How often the one goes into the other, to a tenth.
fn times(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 10 / u128::from(whole.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What a tab for each reader promises, if their reads are paid for.
async fn fees(args: &ShareCreate, cloud: &Local, bucket: &str, expires_ms: u64) -> Result<Option<Fees>> {
    let Some(pay) = &args.pay else { return Ok(None) };
    let per_gib = args.per_gib.as_deref().map(money::parse).transpose()?.map(|wei| wei.saturating_to());
    cloud.fees(bucket, money::parse(pay)?, per_gib, expires_ms).await.map(Some).map_err(sdk_fault)
}

/// How many objects are meant, and their bytes.
async fn extent(cloud: &Local, bucket: &str, what: What<'_>) -> Result<(u64, u64)> {
    let prefix = match what {
        What::Object { key, version } => {
            let missing = || sdk_fault(hodei_sdk::Fault::NoObject { bucket: bucket.into(), key: key.into() });
            let entry = cloud.look(bucket, key, version).await.map_err(sdk_fault)?;
            return Ok((1, entry.filter(|entry| !entry.marker).ok_or_else(missing)?.size_bytes()));
        }
        What::Below(prefix) => prefix,
    };
    let (mut objects, mut size) = (0, 0);
    for (key, bytes) in below(cloud, bucket, prefix).await? {
        // What is called as the prefix itself has no path below it.
        if key.len() > prefix.len() {
            objects += 1;
            size += bytes;
        }
    }
    if objects == 0 {
        return Err(sdk_fault(hodei_sdk::Fault::NoObject { bucket: bucket.into(), key: prefix.into() }));
    }
    Ok((objects, size))
}

/// Keys that begin so, and the bytes of each.
pub(super) async fn below(cloud: &Local, bucket: &str, prefix: &str) -> Result<Vec<(String, u64)>> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = cloud.list(bucket, prefix, after.as_deref(), None, PAGE_MAX).await.map_err(sdk_fault)?;
        found.extend(page.entries.into_iter().map(|(key, entry)| (key, entry.size_bytes())));
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Whom passes are for, each once.
fn readers(words: &[String], session: &Session) -> Result<Vec<NodeKey>> {
    let mut readers = Vec::new();
    for word in words {
        let reader = read(word, mark(&session.network_key.genesis))?;
        if !readers.contains(&reader) {
            readers.push(reader);
        }
    }
    Ok(readers)
}

fn read(word: &str, network: [u8; 8]) -> Result<NodeKey> {
    let wrong = |message: String| {
        Fault::new(&fault::USAGE, message, "the reader's own `hodei share reader` prints it")
            .between("hodeireader1…", format!("{word:?}"))
    };
    let reader = word.parse::<Reader>().map_err(|error| wrong(format!("that names no reader: {error}")))?;
    if reader.network != network {
        return Err(wrong("that reader is of another network".into()));
    }
    Ok(reader.key)
}

/// `hodei share reader`.
pub(crate) fn reader(session: &Session, out: Out) -> Result<()> {
    let reader = session.reader()?;
    out.result(
        reader.to_string(),
        &json!({ "schema": "hodei.share.reader/1", "reader": reader.to_string(), "key": reader.key.to_string() }),
    );
    out.say("Give it to whoever shall make you a pass. It is no secret; who has it learns that its passes are one reader's.");
    Ok(())
}

fn gateway(named: Option<&str>, session: &Session) -> Result<Option<String>> {
    let Some(base) = named.or_else(|| session.context.doors.get("share").map(String::as_str)) else { return Ok(None) };
    if !(base.starts_with("http://") || base.starts_with("https://")) {
        return Err(Fault::new(&fault::USAGE, "that is no gateway", "write its address").between("https://HOST", base));
    }
    Ok(Some(base.trim_end_matches('/').to_owned()))
}

fn version(text: &str) -> Result<Version> {
    text.parse().map_err(|error| Fault::new(&fault::REFERENCE, error, "copy it from a listing of versions"))
}

/// `30m`, `12h`, `7d`, `52w` in seconds.
fn duration(text: &str) -> Result<u64> {
    let wrong = || {
        Fault::new(&fault::USAGE, "that is no time", "write a number and m, h, d or w")
            .between("1m to 520w, as 7d", format!("{text:?}"))
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let secs = match unit {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    count.checked_mul(secs).filter(|secs| (1..=EXPIRES_SECS_MAX).contains(secs)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        for (text, secs) in [("1m", 60), ("12h", 43_200), ("7d", 604_800), ("520w", 314_496_000)] {
            assert_eq!(duration(text).unwrap(), secs);
        }
        for text in ["", "7", "d", "0d", "-1d", "1.5h", "999999w", "7ä", "18446744073709551615w"] {
            assert_eq!(duration(text).unwrap_err().code.id, "HD1001", "{text:?}");
        }
    }

    #[test]
    fn a_part_of_what_is_shared_is_not_nothing() {
        assert_eq!([times(1 << 20, 3 << 20), times(3, 3), times(25, 10), times(7, 0)], ["0.3", "1.0", "2.5", "7.0"]);
        assert_eq!(times(u64::MAX, 1), format!("{}.0", u64::MAX));
    }

    #[test]
    fn a_reader_is_told_by_its_word_and_of_this_network() {
        let word = Reader { network: [1; 8], key: NodeKey([2; 32]) }.to_string();
        assert_eq!(read(&word, [1; 8]).unwrap(), NodeKey([2; 32]));
        assert_eq!(read(&word, [3; 8]).unwrap_err().code.id, "HD1001");
        assert_eq!(read(&word[..word.len() - 1], [1; 8]).unwrap_err().code.id, "HD1001");
        assert_eq!(read(&"02".repeat(32), [1; 8]).unwrap_err().code.id, "HD1001");
    }
}
