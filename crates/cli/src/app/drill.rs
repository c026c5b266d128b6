//! End replicas of an app on purpose, ask its door all the while, and tell what came of it.

use super::deploy::teller;
use crate::{
    args::AppDrill,
    fault::{self, Fault, Result},
    money,
    out::Out,
    session::sdk_fault,
};
use hodei_sdk::{
    app::{Apps, Running},
    link::Link,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// From one request to the next.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longer no answer is waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// The first line of an answer is shorter.
const HEAD_BYTES: u64 = 64;

/// What requests through the door got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    requests: u64,
    failed: u64,
    /// The longest time in which none was answered.
    gap: Duration,
    last: Option<Instant>,
}

impl Asked {
    fn add(&mut self, now: Instant, is_answered: bool) {
        self.requests += 1;
        if !is_answered {
            self.failed += 1;
            return;
        }
        if let Some(last) = self.last.replace(now) {
            self.gap = self.gap.max(now.saturating_duration_since(last));
        }
    }
}

/// The status of an answer of the door.
async fn ask(door: SocketAddr, name: &str) -> io::Result<u16> {
    let asked = async {
        let mut socket = TcpStream::connect(door).await?;
        let request = format!("GET / HTTP/1.0\r\nHost: {name}.localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        socket.take(HEAD_BYTES).read_to_end(&mut head).await?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        status.and_then(|status| status.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    tokio::time::timeout(ASK_TIMEOUT, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Asks again and again, until it is dropped.
async fn ask_on(door: SocketAddr, name: &str, asked: &mut Asked) {
    loop {
        // What the app itself answers is its own affair; what the door says in its place is not.
        let is_answered = matches!(ask(door, name).await, Ok(status) if !(502..=504).contains(&status));
        asked.add(Instant::now(), is_answered);
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// `hodei app drill`
pub(super) async fn drill(args: &AppDrill, apps: &Apps<Link>, out: Out) -> Result<()> {
    let name = &args.name.app;
    let shown = apps.show(name).await.map_err(sdk_fault)?;
    let is_meant = |running: &&Running| {
        let (host, zone) = (args.host.as_deref(), args.zone.as_deref());
        args.replica == Some(running.lease.id)
            || host.is_some_and(|host| !host.is_empty() && running.node.to_string().starts_with(host))
            || zone == Some(running.zone.as_str())
    };
    let meant: Vec<&Running> = shown.replicas.iter().filter(is_meant).collect();
    if meant.is_empty() {
        let help = format!("`hodei app show {name}` lists them with hosts and zones");
        return Err(Fault::new(&fault::NO_APP, "no replica that runs is meant by that", help));
    }
    let leases: BTreeSet<u64> = meant.iter().map(|running| running.lease.id).collect();
    // The door asks for a moment's patience while it looks around; one that is not there refuses at once.
    let is_kept = ask(args.door, name).await.is_ok_and(|status| status != 404 && status != 403);
    let others = shown.replicas.len() - meant.len();
    out.say(format!("{name}: {} of {} replicas end; {others} are left", meant.len(), shown.replicas.len()));
    out.say(match is_kept {
        true => format!("{} is asked all the while; its upkeep places them again", args.door),
        false => {
            format!("no door of this wallet is at {}: nothing is asked, and they are placed again from here", args.door)
        }
    });
    if args.plan.dry_run {
        out.result(
            "",
            &json!({
                "schema": "hodei.app.drill.plan/1", "name": name, "leases": leases, "left": others,
                "door": is_kept.then(|| args.door.to_string()),
            }),
        );
        return Ok(());
    }
    out.confirm("End them? What they had left comes back, and buys those that take their place.", args.plan.yes)?;
    let (mut asked, mut tell) = (Asked::default(), teller(out));
    let drilled = {
        let drilling = apps.drill(name, &leases, is_kept, &mut tell);
        let asking = async {
            match is_kept {
                true => ask_on(args.door, name, &mut asked).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            drilled = drilling => drilled.map_err(sdk_fault)?,
            () = asking => return Err(Fault::new(&fault::INTERNAL, "asking ended by itself", "report it")),
        }
    };
    let ms = drilled.took.as_millis() as u64;
    let requests = match is_kept {
        true => format!(
            "{} of {} requests failed, the longest time without an answer was {} ms",
            asked.failed,
            asked.requests,
            asked.gap.as_millis()
        ),
        false => "no requests were made".into(),
    };
    out.result(
        format!(
            "{name}: as many as before are ready after {}.{} s; {requests}; {} came back, {} are in escrow for those in \
             their place",
            ms / 1000,
            ms % 1000 / 100,
            money::exact(drilled.refunded),
            money::exact(drilled.escrow)
        ),
        &json!({
            "schema": "hodei.app.drill/1", "name": name, "ended": drilled.ended, "placed": drilled.placed,
            "whole_ms": ms, "requests": is_kept.then_some(asked.requests), "failed": is_kept.then_some(asked.failed),
            "gap_ms": is_kept.then_some(asked.gap.as_millis() as u64), "refunded_wei": drilled.refunded.to_string(),
            "escrow_wei": drilled.escrow.to_string(),
        }),
    );
    out.next(format!("hodei app show {name}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_counted_and_the_longest_silence_is_between_two_answers() {
        let (begun, mut asked) = (Instant::now(), Asked::default());
        let at = |ms| begun + Duration::from_millis(ms);
        for (ms, is_answered) in [(0, true), (100, true), (200, false), (900, true), (1000, true)] {
            asked.add(at(ms), is_answered);
        }
        assert_eq!((asked.requests, asked.failed, asked.gap), (5, 1, Duration::from_millis(800)));
    }
}
