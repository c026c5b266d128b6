//! Check this machine and the way to the network; say how to repair.

use crate::{
    fault::{self, Fault, Result},
    out::{Out, bytes},
    own,
    paths::Paths,
    session::{Session, brief},
    status::{HEAD_AGE_MAX, now_ms, of_node},
};
use hodei_node::disk;
use hodei_types::chain::{Chain as _, ChainError, Head};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    time::Duration,
};

/// A member that is there answers within a few round trips.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(6);
/// A provider's proof depends on it; validators wait for a clock that is at most two seconds ahead.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(2);
/// A member that follows is a few blocks behind at most while the others are asked.
const BEHIND_MAX: u64 = 20;
/// What a node writes in a day besides what it keeps for others; less stops it soon.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Sockets and files of a node with many peers and deals.
const FILES_MIN: u64 = 1024;
/// The first day of 2025, in milliseconds since 1970: this program is younger.
const CLOCK_MIN_MS: u64 = 1_735_689_600_000;

/// One check: what was found, and when unwell, how to repair it.
struct Finding {
    what: String,
    outcome: std::result::Result<String, String>,
}

/// All of them, in order.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn find(&mut self, what: &str, outcome: std::result::Result<String, String>) {
        self.0.push(Finding { what: what.into(), outcome });
    }

    /// What needs no network.
    fn of_machine(paths: &Paths) -> Self {
        let mut findings = Self::default();
        for (what, folder) in [("settings", &paths.config), ("data", &paths.data), ("state", &paths.state)] {
            findings.find(what, writable(folder));
        }
        findings.find("room", room(&paths.data));
        findings.find(
            "files",
            std::fs::read_to_string("/proc/self/limits")
                .map_err(|error| error.to_string())
                .and_then(|text| files(&text)),
        );
        findings.find("udp", udp());
        if now_ms() < CLOCK_MIN_MS {
            findings
                .find("clock", Err("it is years behind: set it, for instance with `timedatectl set-ntp true`".into()));
        }
        findings
    }

    /// Tells all; what is unwell makes the command fail.
    fn tell(self, about: Value, out: Out) -> Result<()> {
        let unwell = self.0.iter().filter(|finding| finding.outcome.is_err()).count();
        let told = |finding: &Finding| match &finding.outcome {
            Ok(text) => ("✓", text.clone()),
            Err(text) => ("✗", text.clone()),
        };
        let lines = self.0.iter().map(|finding| {
            let (mark, text) = told(finding);
            format!("{mark} {:<10} {text}", finding.what)
        });
        let lines: Vec<String> = lines.collect();
        let mut value = about;
        value["schema"] = json!("hodei.doctor/1");
        value["well"] = json!(unwell == 0);
        value["findings"] = self
            .0
            .iter()
            .map(|finding| {
                json!({
                    "what": finding.what, "well": finding.outcome.is_ok(), "text": told(finding).1,
                })
            })
            .collect();
        out.result(lines.join("\n"), &value);
        match unwell {
            0 => Ok(()),
            _ => Err(Fault::new(
                &fault::UNWELL,
                format!("{unwell} of {} checks did not pass", lines.len()),
                "do what the lines marked ✗ say",
            )),
        }
    }
}

/// `hodei doctor` where no cloud is chosen: the machine alone.
pub(crate) fn machine(paths: &Paths, out: Out) -> Result<()> {
    Findings::of_machine(paths).tell(json!({ "context": null, "members_answering": null }), out)?;
    out.say("No network is known here yet, so only this machine was looked at: hodei demo --keep, hodei net create or hodei net join");
    Ok(())
}

/// `hodei doctor`: every check runs, whatever the others say.
pub(crate) async fn run(session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let mut findings = Findings::of_machine(paths);
    let wallet = session.wallet().map(|wallet| format!("opens, account {}", wallet.owner()));
    findings.find("wallet", wallet.map_err(|fault| format!("{}: {}", fault.message, fault.help)));

    let members = session.context.member.iter().enumerate().map(|(index, member)| async move {
        let at: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        let at = at.join(", ");
        let asked = session.only(index);
        match tokio::time::timeout(MEMBER_TIMEOUT, asked.head()).await {
            Ok(Ok(head)) => Ok((head, at)),
            Ok(Err(error @ (ChainError::Invalid(_) | ChainError::Refused(_) | ChainError::Reverted(_)))) => {
                Err(format!("at {at}: {}: ask its operator", brief(&error.to_string())))
            }
            Ok(Err(ChainError::Unavailable(_))) | Err(_) => {
                Err(format!("no answer at {at}: start it, or open that UDP port on the way"))
            }
        }
    });
    // All at once: a patient look at each would add up.
    let members = futures::future::join_all(members).await;
    let newest: Option<Head> =
        members.iter().filter_map(|found| Some(found.as_ref().ok()?.0.clone())).max_by_key(|head| head.height);
    let answering = members.iter().filter(|found| found.is_ok()).count();
    for (index, found) in members.into_iter().enumerate() {
        let top = newest.as_ref().map_or(0, |head| head.height);
        findings.find(&format!("member {}", index + 1), found.and_then(|(head, at)| follows(head.height, top, &at)));
    }
    if let Some(Head { height, time_ms, .. }) = newest {
        let now = now_ms();
        let ahead = time_ms.saturating_sub(now);
        findings.find(
            "clock",
            if ahead > CLOCK_OFF_MAX.as_millis() as u64 {
                Err(format!("{ahead} ms behind the chain: set it, for instance with `timedatectl set-ntp true`"))
            } else {
                Ok("not behind the chain".into())
            },
        );
        let age = now.saturating_sub(time_ms);
        findings.find("blocks", if age > HEAD_AGE_MAX.as_millis() as u64 {
            Err(format!("block {height} is {} s old: more than a third of the validators may be away, or this clock is ahead", age / 1000))
        } else {
            Ok(format!("block {height} is {age} ms old"))
        });
    }
    if let Some(folder) = &session.context.node {
        let found = of_node(folder).await.and_then(|node| match own::unreached(&node) {
            None => Ok(format!("answers, in {}", folder.display())),
            Some(why) => Err(format!("in {}: {why}", folder.display())),
        });
        findings.find("node", found);
    }
    findings.tell(json!({ "context": session.name, "members_answering": answering }), out)
}

/// Whether a member at `height` follows the chain, whose newest block known here is `top`.
fn follows(height: u64, top: u64, at: &str) -> std::result::Result<String, String> {
    let behind = top.saturating_sub(height);
    if behind > BEHIND_MAX {
        return Err(format!(
            "answers with block {height} at {at}, {behind} behind the others: it catches up, or its operator should look why not"
        ));
    }
    Ok(format!("answers with block {height} at {at}"))
}

/// The nearest folder there is.
fn nearest(folder: &Path) -> std::result::Result<&Path, String> {
    // One that is not there yet is made where its nearest parent is.
    folder.ancestors().find(|at| at.exists()).ok_or_else(|| "no folder above it exists".into())
}

fn writable(folder: &Path) -> std::result::Result<String, String> {
    let at = nearest(folder)?;
    let probe = at.join(format!(".hodei-doctor-{}", std::process::id()));
    match std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Ok(format!("{} can be written", folder.display())),
        Err(error) => Err(format!("{}: {error}: free space or change its permissions", at.display())),
    }
}

fn room(folder: &Path) -> std::result::Result<String, String> {
    let free = disk::free_bytes(nearest(folder)?).map_err(|error| format!("{}: {error}", folder.display()))?;
    if free < FREE_BYTES_MIN {
        return Err(format!(
            "{} are free at {}: free some more, at least {}",
            bytes(free),
            folder.display(),
            bytes(FREE_BYTES_MIN)
        ));
    }
    Ok(format!("{} are free at {}", bytes(free), folder.display()))
}

/// How many files a process may hold open, of the system's own words.
fn files(limits: &str) -> std::result::Result<String, String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft =
        line.and_then(|line| line.split_whitespace().next()).ok_or("the system does not say how many may be open")?;
    match soft.parse::<u64>() {
        Ok(count) if count < FILES_MIN => Err(format!(
            "{count} may be open at once, a node needs {FILES_MIN}: raise it, for instance with `ulimit -n 65536`"
        )),
        Ok(count) => Ok(format!("{count} may be open at once")),
        Err(_) => Ok(format!("{soft} may be open at once")),
    }
}

/// Whether this user may open the sockets that everything else goes through.
fn udp() -> std::result::Result<String, String> {
    let send = || -> std::io::Result<()> {
        let (a, b) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?);
        b.set_read_timeout(Some(Duration::from_secs(2)))?;
        let to = (Ipv4Addr::LOCALHOST, b.local_addr()?.port());
        a.send_to(b"hodei", to)?;
        b.recv_from(&mut [0; 8]).map(|_| ())
    };
    match send() {
        Ok(()) => Ok("sockets open, and a packet arrives".into()),
        Err(error) => Err(format!("{error}: allow this user UDP sockets, and packets to itself")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_far_behind_is_not_well() {
        assert!(follows(100, 100, "a").is_ok() && follows(100 - BEHIND_MAX, 100, "a").is_ok());
        let told = follows(100 - BEHIND_MAX - 1, 100, "a").unwrap_err();
        assert!(told.contains("block 79") && told.contains("21 behind"), "{told}");
    }

    #[test]
    fn few_files_and_no_room_are_told_with_what_to_do() {
        let limits = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files            {soft}     524288  files\n")
        };
        assert!(files(&limits("256")).unwrap_err().contains("256 may be open"));
        assert!(files(&limits("1024")).is_ok() && files(&limits("unlimited")).is_ok());
        assert!(files("").is_err());
        assert!(writable(Path::new("/proc/none/here")).is_err());
        assert!(udp().is_ok());
    }
}
