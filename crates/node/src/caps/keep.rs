//! Keep a running provider within its caps, and know what its proofs wait for.
//!
//! Upon each second: what was carried is added to the day's and the month's, and the caps decide whether it rests. Upon
//! each minute, and at the end, the sums are written down: after a crash at most a minute of them is forgotten.

use super::{
    Caps, Keeper,
    limits::{Carried, Conditions},
    power,
};
use crate::{
    home::{Home, replace},
    provider::Provider,
    tasks::Task,
};
use commonware_runtime::Storage;
use std::{
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, task::JoinSet};

const STEP_EVERY: Duration = Duration::from_secs(1);
/// Steps between two times that the sums are written down.
const REMEMBER_EVERY: u32 = 60;
/// A command that tells whether the network is metered is asked so often, and has so long.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than what is written there.
const FILE_BYTES_MAX: u64 = 4096;

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Keeps a provider within these caps until `stop`.
pub(crate) async fn keep<E: Storage>(
    provider: Provider<E>,
    caps: Caps,
    home: Home,
    task: Task,
    mut stop: watch::Receiver<bool>,
) {
    let file = home.path().join("carried.json");
    let mut keeper = Keeper::new(caps.clone(), remembered(&file));
    let (tell, told) = watch::channel(caps.metered);
    // Ends with this loop.
    let mut asking = JoinSet::new();
    if !caps.metered_command.is_empty() {
        asking.spawn(ask(caps.metered_command.clone(), tell));
    }
    let mut turn = 0u32;
    loop {
        let conditions = Conditions { power: power::read(Path::new(power::SUPPLIES)), metered: *told.borrow() };
        match keeper.step(&provider, conditions, now_s()) {
            Some(why) => task.doing(format!("resting: {why}")),
            None => task.doing("within the caps"),
        }
        task.passed();
        if turn.is_multiple_of(REMEMBER_EVERY) {
            remember(&file, keeper.carried());
        }
        turn = turn.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(STEP_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    remember(&file, keeper.carried());
}

fn remembered(file: &Path) -> Carried {
    // Lost, it only means that day and month begin anew.
    let is_ours = std::fs::metadata(file).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
    let text = if is_ours { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&text).unwrap_or_default()
}

fn remember(file: &Path, carried: Carried) {
    let text = serde_json::to_vec(&carried).expect("plain values");
    if let Err(error) = replace(file, &text, 0o600) {
        tracing::warn!(%error, "what was carried was not written down");
    }
}

/// Asks the owner's command each minute, as long as somebody wants to know.
async fn ask(command: Vec<String>, tell: watch::Sender<Option<bool>>) {
    let Some((program, words)) = command.split_first() else { return };
    loop {
        let mut asked = tokio::process::Command::new(program);
        asked.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let metered = match tokio::time::timeout(ASK_TIMEOUT, asked.status()).await {
            Ok(Ok(status)) => metered(status.code()),
            Ok(Err(error)) => {
                tracing::warn!(%error, program, "`caps.metered_command` did not run");
                None
            }
            Err(_) => {
                tracing::warn!(program, "`caps.metered_command` did not end within {} s", ASK_TIMEOUT.as_secs());
                None
            }
        };
        if tell.send(metered).is_err() {
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What a command's exit code says: 0 metered, 1 unmetered, anything else nothing.
fn metered(code: Option<i32>) -> Option<bool> {
    match code? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_says_nothing_of_the_network() {
        assert_eq!((metered(Some(0)), metered(Some(1))), (Some(true), Some(false)));
        assert_eq!((metered(Some(127)), metered(None)), (None, None));
    }

    #[test]
    fn a_command_is_run_and_what_it_ends_with_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shell = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
            for (command, told) in [
                (shell("exit 0"), Some(true)),
                (shell("exit 1"), Some(false)),
                (shell("exit 3"), None),
                (vec!["/nowhere/is-metered".to_owned()], None),
            ] {
                // What it was before shows that it was told.
                let (tell, mut heard) = watch::channel(told.map_or(Some(true), |_| None));
                tokio::select! {
                    () = ask(command.clone(), tell) => panic!("it asks as long as somebody wants to know"),
                    changed = heard.changed() => changed.unwrap(),
                }
                assert_eq!(*heard.borrow(), told, "{command:?}");
            }
        });
    }

    #[test]
    fn what_was_carried_is_remembered_and_a_file_that_says_something_else_is_none() {
        let folder = std::env::temp_dir().join(format!("hodei-carried-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("carried.json");
        assert_eq!(remembered(&file), Carried::default());
        let mut carried = Carried::default();
        carried.add(70, 20_000 * 86_400);
        remember(&file, carried);
        assert_eq!(remembered(&file), carried);
        assert_ne!(carried, Carried::default());
        let text = std::fs::read_to_string(&file).unwrap();
        let long = text.clone() + &" ".repeat(4096);
        for other in ["", "[]", "{\"day\": \"today\"}", &text[..text.len() / 2], long.as_str()] {
            std::fs::write(&file, other).unwrap();
            assert_eq!(remembered(&file), Carried::default(), "{other}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
