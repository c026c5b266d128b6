//! Serve links to browsers of this machine, and what was read to other readers.

use crate::{
    args::ShareServe,
    budget,
    data::finish,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    serve::stopped,
    session::Session,
};
use hodei_node::disk;
use hodei_sdk::{
    Local,
    crowd::{PARTITION, Settings},
    link::{Link, Listener},
};
use serde_json::json;
use std::path::Path;
use tokio::{net::TcpListener, task::JoinHandle};

/// `hodei share serve`.
pub(crate) async fn serve(args: &ShareServe, session: &Session, out: Out) -> Result<()> {
    if !args.listen.ip().is_loopback() {
        let help = "listen on 127.0.0.1, and let a server that speaks TLS pass on what comes for /s/";
        return Err(
            Fault::new(&fault::SETTINGS, "links are secrets, and this door speaks plain HTTP", help).at(args.listen)
        );
    }
    let stop = stopped(args.process.until_stdin_closes)?;
    check_room(args, session)?;
    let port = args.addresses.first().map(|address| address.port());
    let (cloud, wire, listener) = session.reader_cloud_at(port).await?;
    let bound = TcpListener::bind(args.listen).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, door) = bound
        .map_err(|error| Fault::new(&fault::NODE, format!("{}: {error}", args.listen), "choose another address"))?;
    let (others, reached) = join(args, session, (&cloud, &wire), listener).await;
    let door = tokio::spawn(hodei_gateway::share::serve(door, cloud.clone()));
    let follower = budget::follow(session.purse.clone(), cloud.clone(), out);
    let url = format!("http://{address}");
    let reader = cloud.reader().to_string();
    out.result(
        format!("links are served at {url}, and passes for {reader}"),
        &json!({
            "schema": "hodei.share.ready/1", "url": url, "reader": reader, "keep_bytes": args.keep.unwrap_or(0),
            "addresses": reached,
        }),
    );
    if let Some(keep) = args.keep {
        let given = match reached.is_empty() {
            true => {
                "given to nobody: no address is known by which others reach this machine, name one by --address".into()
            }
            false => format!("given to other readers at {}", reached.join(", ")),
        };
        out.say(format!("up to {} of what is read is kept, and {given}", bytes(keep)));
    }
    stop.await;
    door.abort();
    others.abort();
    follower.abort();
    finish(&cloud, out).await;
    wire.close().await;
    Ok(())
}

/// What is kept takes at most half of what is free, or was before something was kept.
fn check_room(args: &ShareServe, session: &Session) -> Result<()> {
    let Some(keep) = args.keep else { return Ok(()) };
    let folder = session.folder();
    let free = disk::free_bytes(folder).map_err(|error| Fault::io(folder, "asking the file system", &error))?;
    let free = free.saturating_add(kept_bytes(folder));
    if keep <= free / 2 {
        return Ok(());
    }
    let help = "keep less, or make room";
    Err(Fault::new(&fault::SETTINGS, "that is more than half of what is free on this disk", help)
        .between(format!("at most {}", bytes(free / 2)), bytes(keep)))
}

/// What lies below an identity's folder of what was kept before; 0 if nothing can be seen there.
fn kept_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join("store").join(PARTITION)).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Meets other readers, as it was told to; gives where they reach this one.
async fn join(
    args: &ShareServe,
    session: &Session,
    (cloud, wire): (&Local, &Link),
    mut listener: Listener,
) -> (JoinHandle<()>, Vec<String>) {
    let own = wire.address().and_then(|bound| session.own_address(bound));
    let addresses = match (args.keep, args.addresses.as_slice()) {
        (None, _) => Vec::new(),
        (Some(_), []) => own.into_iter().collect(),
        (Some(_), named) => named.to_vec(),
    };
    let settings = Settings {
        keep_bytes: args.keep.unwrap_or(0),
        upload_bytes_per_s: args.upload,
        addresses: addresses.clone(),
        is_asking: !args.no_crowd,
    };
    let crowd = cloud.join_crowd(settings).await;
    let others = tokio::spawn(async move {
        while let Some(incoming) = listener.accept().await {
            let crowd = crowd.clone();
            tokio::spawn(async move { crowd.serve(incoming).await });
        }
    });
    (others, addresses.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_before_is_seen() {
        let folder = std::env::temp_dir().join(format!("hodei-kept-{}", std::process::id()));
        assert_eq!(kept_bytes(&folder), 0, "nothing is there yet");
        let shelf = folder.join("store").join(PARTITION);
        std::fs::create_dir_all(&shelf).unwrap();
        std::fs::write(shelf.join("00"), [0; 5000]).unwrap();
        std::fs::write(shelf.join("01"), [0; 700]).unwrap();
        let kept = kept_bytes(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(kept, 5700);
    }
}
