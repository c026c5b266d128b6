//! Ask an app, keep what its host signs of that, and run such a request again.

use super::{apps, deploy};
use crate::{
    args::{AppAsk, AppReplay, AppSamples},
    fault::{self, Fault, Result},
    out::{Out, bytes},
    session::{Session, sdk_fault},
    start,
    time::utc,
};
use hodei_node::{
    home::replace,
    host::{
        program,
        replay::{ReplayError, Replayed, Verdict, replay},
    },
};
use hodei_sdk::app::Question;
use hodei_types::app::{
    Limits,
    transcript::{RECORD_BYTES_MAX, Record, Transcript},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `hodei app ask`
pub(crate) async fn ask(args: &AppAsk, session: &Session, out: Out) -> Result<()> {
    let name = &args.name.app;
    let body = match &args.body {
        Some(path) => deploy::limited(path, Limits::BODY_BYTES_MAX, &fault::USAGE)?,
        None => Vec::new(),
    };
    let mut headers = vec![("host".to_owned(), format!("{name}.localhost").into_bytes())];
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Fault::new(&fault::USAGE, format!("{header:?} is no header"), "say it as --header \"accept: text/plain\"")
        })?;
        let name = name.trim().to_ascii_lowercase();
        headers.retain(|(known, _)| name != "host" || known != "host");
        headers.push((name, value.trim().as_bytes().to_vec()));
    }
    let question = Question { lease: 0, method: args.method.clone(), target: args.path.clone(), headers, pay: None };
    let wants = args.transcript.is_some();
    let answered = apps(session).await?.ask(name, &question, &body, wants).await.map_err(sdk_fault)?;
    let text = String::from_utf8_lossy(&answered.body).into_owned();
    let (status, readings) = (answered.head.as_ref().map(|(status, _)| *status), &answered.readings);
    let mut value = json!({
        "schema": "hodei.app.ask/1", "name": name, "status": status, "lease": answered.lease,
        "node": answered.node.to_string(), "body": text, "body_bytes": answered.body.len(),
        "failure": answered.failure, "fuel": readings.fuel, "memory_peak_bytes": readings.memory_peak_bytes,
        "wall_us": readings.wall_us, "price_wei": answered.price.map(|wei| wei.to_string()),
    });
    if let (Some(path), Some(record)) = (&args.transcript, &answered.record) {
        write(path, record)?;
        value["transcript"] = json!(path);
        value["transcript_hash"] = json!(hex::encode(record.signed.transcript.hash()));
    }
    out.result(text.trim_end(), &value);
    let said = status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
    out.say(format!(
        "{said} by lease {} on {}; fuel {}, {} of memory",
        answered.lease,
        answered.node,
        readings.fuel,
        bytes(readings.memory_peak_bytes)
    ));
    if let Some(failure) = answered.failure {
        let help = "`hodei app logs` shows what it printed; correct the component, or raise its limits";
        return Err(Fault::new(&fault::APP_FAILED, format!("the component failed: {failure}"), help));
    }
    if let Some(path) = &args.transcript {
        out.next(format!("hodei app replay {} --component FILE.wasm", path.display()));
    }
    Ok(())
}

/// `hodei app samples`
pub(crate) async fn samples(args: &AppSamples, session: &Session, out: Out) -> Result<()> {
    let name = &args.name.app;
    let samples = apps(session).await?.samples(name).await.map_err(sdk_fault)?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(|error| Fault::io(folder, "making the folder", &error))?;
    }
    for (lease, node, said) in &samples {
        let records = match said {
            Ok(records) => records,
            Err(why) => {
                let value = json!({
                    "schema": "hodei.app.sample/1", "lease": lease, "node": node.to_string(), "error": why,
                });
                out.result(format!("lease {lease}: {why}"), &value);
                continue;
            }
        };
        for record in records {
            let transcript = &record.signed.transcript;
            let file = args.out.as_ref().map(|folder| folder.join(format!("{lease}-{}.request", transcript.number)));
            if let Some(path) = &file {
                write(path, record)?;
            }
            let mut value = told(transcript);
            value["schema"] = json!("hodei.app.sample/1");
            value["file"] = json!(file);
            out.result(
                format!(
                    "lease {lease}, request {}: {} {}, fuel {}{}",
                    transcript.number,
                    transcript.method,
                    transcript.target,
                    transcript.outcome.fuel,
                    file.map_or_else(String::new, |path| format!(", in {}", path.display()))
                ),
                &value,
            );
        }
    }
    if samples.iter().all(|(.., said)| said.as_ref().is_ok_and(Vec::is_empty)) {
        out.say(format!("No request of {name} was written down yet: the first of each replica is, and each 64th"));
    }
    Ok(())
}

/// What a transcript says, for programs.
fn told(transcript: &Transcript) -> Value {
    json!({
        "lease": transcript.lease, "node": transcript.node.to_string(), "chain_id": transcript.chain_id,
        "workload": hex::encode(transcript.manifest.workload()), "name": transcript.manifest.name,
        "engine": transcript.engine, "request": transcript.number, "time_ms": transcript.now_ns / 1_000_000,
        "method": transcript.method, "target": transcript.target, "fuel": transcript.outcome.fuel,
        "transcript_hash": hex::encode(transcript.hash()),
    })
}

/// Writes what its owner alone may read: requests are private.
fn write(path: &Path, record: &Record) -> Result<()> {
    let help = "choose a folder this user may write to";
    replace(path, &record.encode(), 0o600).map_err(|error| Fault::new(&fault::FOLDER, error, help).at(path.display()))
}

/// `hodei app replay`: exit 0 when it runs as it was signed, 6 when it does not. It needs no cloud.
pub(crate) fn run_again(args: &AppReplay, out: Out) -> Result<()> {
    let at = |fault: Fault| fault.at(args.file.display());
    let file = deploy::limited(&args.file, RECORD_BYTES_MAX as u64, &fault::TRANSCRIPT_FALSE)?;
    let record = Record::decode(&file).map_err(|error| at(refused(&error.into())))?;
    let wasm = deploy::wasm(&args.component)?;
    let node = record.signed.transcript.node.to_string();
    if let Some(host) = args.host.as_ref().filter(|host| !host.eq_ignore_ascii_case(&node)) {
        let help = "`hodei app show` names the hosts of an app's leases; do not rely on this transcript";
        return Err(at(Fault::new(&fault::TRANSCRIPT_FALSE, "another node signed it", help).between(host, node)));
    }
    let program = program().map_err(|error| Fault::new(&fault::NODE, error, "run it by its full path"))?;
    // Of this process alone: nothing is kept.
    let storage: PathBuf = std::env::temp_dir().join(format!("hodei-replay-{}", std::process::id()));
    let replayed = start(storage.clone(), None, |_| async { Ok(replay(&program, &record, &wasm).await) });
    // What is left there is an empty folder.
    std::fs::remove_dir_all(&storage).ok();
    let replayed = replayed?.map_err(|error| at(refused(&error)))?;
    tell(&record.signed.transcript, &replayed, out);
    match replayed.verdict {
        Verdict::Same => Ok(()),
        Verdict::Differs => {
            let signed = record.signed.transcript.outcome.lines().into_iter();
            let mut lines = signed.zip(replayed.outcome.lines()).filter(|(signed, found)| signed != found);
            let ((what, signed), (_, found)) = lines.next().unwrap_or_default();
            let help = "its host signed what does not happen: order elsewhere, and keep this file as evidence";
            let words = format!("the request runs otherwise here: {what}");
            Err(at(Fault::new(&fault::TRANSCRIPT_FALSE, words, help).between(signed, found)))
        }
        Verdict::Unsteady => {
            let help = "make the component wait for what it reads and writes instead of looking whether it is there";
            Err(at(Fault::new(&fault::NOT_REPLAYED, "this component does not run the same twice here", help)))
        }
        Verdict::Deadline => {
            let help = "raise the app's request_deadline, so that fuel ends what takes too long";
            Err(at(Fault::new(&fault::NOT_REPLAYED, "it was ended by its deadline, here or there", help)))
        }
    }
}

fn tell(transcript: &Transcript, replayed: &Replayed, out: Out) {
    let signed = transcript.outcome.lines().into_iter();
    let lines: Vec<_> = signed.zip(replayed.outcome.lines()).map(|((what, was), (_, is))| (what, was, is)).collect();
    let mut text = vec![format!(
        "✓ {} {} as request {} of lease {}, signed by node {}\n  of workload {}, at {}, by {}",
        transcript.method,
        transcript.target,
        transcript.number,
        transcript.lease,
        transcript.node,
        hex::encode(transcript.manifest.workload()),
        utc(transcript.now_ns / 1_000_000),
        transcript.engine
    )];
    text.extend(lines.iter().map(|(what, was, is)| match was == is {
        true => format!("✓ {what:<12} same  {is}"),
        false => format!("✗ {what:<12} differs: expected {was}, found {is}"),
    }));
    let mut value = told(transcript);
    value["schema"] = json!("hodei.app.replay/1");
    value["verdict"] = json!(match replayed.verdict {
        Verdict::Same => "same",
        Verdict::Differs => "differs",
        Verdict::Unsteady => "unsteady",
        Verdict::Deadline => "deadline",
    });
    let line = |(what, was, is): &(&str, String, String)| json!({ "what": what, "same": was == is, "expected": was, "found": is });
    value["lines"] = lines.iter().map(line).collect();
    out.result(text.join("\n"), &value);
}

fn refused(error: &ReplayError) -> Fault {
    let rely = "ask whoever gave it for another; do not rely on this one";
    match error {
        ReplayError::Transcript(_) => Fault::new(&fault::TRANSCRIPT_FALSE, error, rely),
        ReplayError::Component(_) => {
            Fault::new(&fault::TRANSCRIPT_FALSE, error, "name the component that was deployed: its hash is in it")
        }
        ReplayError::Engine { found } => {
            Fault::new(&fault::NOT_REPLAYED, error, "run it again by a release of hodei with that engine")
                .between(found, hodei_node::host::ENGINE)
        }
        ReplayError::Request(_) => Fault::new(&fault::NOT_REPLAYED, error, rely),
        ReplayError::Sandbox(_) => {
            Fault::new(&fault::NOT_REPLAYED, error, "free some memory and processes, then run it again")
        }
    }
}
