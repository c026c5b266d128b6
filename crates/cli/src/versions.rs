//! List all versions of a bucket's objects.

use crate::{
    fault::Result,
    out::{Out, bytes, table},
    session::sdk_fault,
    time,
};
use hodei_sdk::{
    Entry, Local,
    index::{Lock, Mode},
    list::{Marker, Versioned},
    object::PAGE_MAX,
};
use serde_json::{Value, json};

/// `hodei data list --versions`.
pub(crate) async fn list(cloud: &Local, bucket: &str, prefix: &str, out: Out) -> Result<()> {
    let mut rows = Vec::new();
    let mut after: Option<Marker> = None;
    loop {
        let from = after.as_ref().map(|(key, version)| (key.as_str(), *version));
        let page = cloud.list_versions(bucket, prefix, from, None, PAGE_MAX).await.map_err(sdk_fault)?;
        for found in &page.entries {
            if out.json {
                out.result("", &value(bucket, found));
            } else {
                rows.push(row(bucket, found));
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if !out.json {
        out.line(&match rows.is_empty() {
            true => "nothing is there".into(),
            false => table(&["CHANGED", "SIZE", "VERSION", "WHAT", "OBJECT"], &rows),
        });
    }
    Ok(())
}

fn value(bucket: &str, Versioned { key, entry, is_newest }: &Versioned) -> Value {
    let lock = entry.lock.unwrap_or_default();
    let mode = lock.retention.map(|retention| name(retention.mode));
    json!({
        "schema": "hodei.data.version/1", "bucket": bucket, "key": key, "version": entry.version.to_string(),
        "is_newest": is_newest, "is_delete_marker": entry.marker, "size_bytes": entry.size_bytes(),
        "modified_ms": entry.modified_ms, "etag": entry.etag, "locked": mode,
        "locked_until_ms": lock.retention.map(|retention| retention.until_ms), "held": lock.hold == Some(true),
    })
}

fn row(bucket: &str, Versioned { key, entry, is_newest }: &Versioned) -> Vec<String> {
    vec![
        time::utc(entry.modified_ms),
        if entry.marker { "-".into() } else { bytes(entry.size_bytes()) },
        entry.version.to_string(),
        what(entry, *is_newest),
        format!("hodei://{bucket}/{key}"),
    ]
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Governance => "governance",
        Mode::Compliance => "compliance",
    }
}

/// What it is, and what keeps it.
fn what(entry: &Entry, is_newest: bool) -> String {
    let mut said = match (entry.marker, is_newest) {
        (true, _) => "delete marker".to_owned(),
        (false, true) => "newest".to_owned(),
        (false, false) => "older".to_owned(),
    };
    let Lock { retention, hold } = entry.lock.unwrap_or_default();
    if let Some(retention) = retention {
        said.push_str(&format!(", {} until {}", name(retention.mode), time::utc(retention.until_ms)));
    }
    if hold == Some(true) {
        said.push_str(", held");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_sdk::index::Retention;

    #[test]
    fn a_version_says_what_keeps_it() {
        let retention = Some(Retention { mode: Mode::Compliance, until_ms: 0 });
        let locked = Entry { lock: Some(Lock { retention, hold: Some(true) }), ..Entry::default() };
        assert_eq!(what(&locked, false), format!("older, compliance until {}, held", time::utc(0)));
        assert_eq!(what(&Entry { marker: true, ..Entry::default() }, true), "delete marker");
    }
}
