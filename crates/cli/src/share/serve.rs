//! Serve links to browsers of this machine, and what was read to other readers.

use crate::{
    args::ShareServe,
    budget,
    data::finish,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    serve::stopped,
    session::{Session, is_dialable},
};
use hodei_node::disk;
use hodei_sdk::{
    Local,
    crowd::{PARTITION, Settings},
    link::{Link, Listener},
};
use serde_json::json;
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};
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
    let reached = match reached(args, session, &wire) {
        Ok(reached) => reached,
        Err(fault) => {
            wire.close().await;
            return Err(fault);
        }
    };
    let bound = TcpListener::bind(args.listen).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, door) = bound
        .map_err(|error| Fault::new(&fault::NODE, format!("{}: {error}", args.listen), "choose another address"))?;
    let others = join(args, &cloud, &reached, listener).await;
    let reached: Vec<String> = reached.iter().map(ToString::to_string).collect();
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

/// Where other readers reach this one: as it was named, or as this machine is seen towards the network.
fn reached(args: &ShareServe, session: &Session, wire: &Link) -> Result<Vec<SocketAddr>> {
    let bound = wire.address();
    // Others are not sent to themselves.
    let own = bound.and_then(|bound| session.own_address(bound).filter(|own| is_dialable(*own, bound)));
    match (args.keep, args.addresses.as_slice()) {
        (None, _) => Ok(Vec::new()),
        (Some(_), []) => Ok(own.into_iter().collect()),
        (Some(_), named) => named.iter().map(|named| dialled(*named, bound, own)).collect(),
    }
}

/// An address that others can dial: port 0 is the one that was taken, and an address of all of this machine is its own
/// towards the network.
fn dialled(named: SocketAddr, bound: Option<SocketAddr>, own: Option<SocketAddr>) -> Result<SocketAddr> {
    let wrong = |why: String| {
        let help = "name the address and port at which others reach this machine, or leave --address out";
        Fault::new(&fault::USAGE, why, help).between("IP:PORT of this machine", named)
    };
    let port = match named.port() {
        0 => bound.ok_or_else(|| wrong("no port is taken that others could be told".into()))?.port(),
        port => port,
    };
    let ip = match named.ip() {
        ip if ip.is_unspecified() => {
            own.ok_or_else(|| wrong(format!("nobody can dial {ip}, and this machine's own address is not known")))?.ip()
        }
        ip => ip,
    };
    let is_of_many = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if is_of_many {
        return Err(wrong(format!("{ip} is not the address of one machine")));
    }
    Ok(SocketAddr::new(ip, port))
}

/// Meets other readers, as it was told to.
async fn join(args: &ShareServe, cloud: &Local, reached: &[SocketAddr], mut listener: Listener) -> JoinHandle<()> {
    let settings = Settings {
        keep_bytes: args.keep.unwrap_or(0),
        upload_bytes_per_s: args.upload,
        addresses: reached.to_vec(),
        is_asking: !args.no_crowd,
    };
    let crowd = cloud.join_crowd(settings).await;
    tokio::spawn(async move {
        while let Some(incoming) = listener.accept().await {
            let crowd = crowd.clone();
            tokio::spawn(async move { crowd.serve(incoming).await });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_they_can_dial() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (bound, own) = (Some(at("0.0.0.0:4711")), Some(at("192.0.2.7:4711")));
        let told = |named: &str| dialled(at(named), bound, own).map(|told| told.to_string());
        assert_eq!(told("198.51.100.1:4433").unwrap(), "198.51.100.1:4433");
        assert_eq!(told("198.51.100.1:0").unwrap(), "198.51.100.1:4711");
        assert_eq!(told("0.0.0.0:0").unwrap(), "192.0.2.7:4711");
        assert_eq!(told("[::]:4500").unwrap(), "192.0.2.7:4500");
        assert_eq!(told("224.0.0.1:4500").unwrap_err().code.id, "HD1001");
        let unknown = dialled(at("0.0.0.0:4500"), bound, None).unwrap_err();
        assert_eq!((unknown.code.id, unknown.found.as_deref()), ("HD1001", Some("0.0.0.0:4500")));
    }

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
