//! Look what a link is of, ahead of reading it.

use super::{get::cloud_for, parse};
use crate::{
    args::ShareOpen,
    data::finish_read,
    fault::Result,
    out::{Out, bytes},
    session::{Session, sdk_fault},
    time,
};
use hodei_sdk::share::Told;
use serde_json::json;

/// `hodei share open`.
pub(crate) async fn open(args: &ShareOpen, session: &Session, out: Out) -> Result<()> {
    let link = parse(&args.link)?;
    let (cloud, wire) = cloud_for(&link, session).await?;
    let opened = cloud.open_link(&link).await;
    finish_read(&cloud, out).await;
    if let Some(wire) = wire {
        wire.close().await;
    }
    let opened = opened.map_err(sdk_fault)?;
    let (name, objects, size) = match &opened.told {
        Told::One(object) => (&object.name, 1, object.size_bytes()),
        Told::Many(folder) => (&folder.name, folder.files.len(), folder.size_bytes()),
    };
    let until = time::utc(link.expires_ms);
    let text = match objects {
        1 => format!("{name}, {}, until {until}", bytes(size)),
        _ => format!("{objects} objects, {}, of {name}, until {until}", bytes(size)),
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.share.open/1", "name": name, "objects": objects, "size_bytes": size,
            "prefix": matches!(opened.told, Told::Many(_)), "expires_ms": link.expires_ms,
            "reader": link.reader.map(|reader| reader.to_string()), "paid": link.purse.is_some(),
            "ledger": !opened.is_kept,
        }),
    );
    if opened.is_kept {
        out.say("The ledger is out of reach: this is by what it said before.");
    } else if link.reader.is_some() {
        out.say("It can be read from now on while the ledger is out of reach, by this wallet on this machine.");
    }
    Ok(())
}
