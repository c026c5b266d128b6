//! Bring a new release of an app beside the one that runs, or one that was, and list them.

use super::{
    apps,
    deploy::{all_told, has_ending, limited, plan_of, tell_plan, teller, told, wasm},
    image,
};
use crate::{
    args::{AppName, AppRollback, AppUpdate, Gate as Said, Plan as Asked},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    serve::stopped,
    session::{Session, sdk_fault},
    time::minute,
};
use alloy_primitives::U256;
use hodei_sdk::{
    app::{Apps, Draft, FILE_BYTES_MAX, Gate, Lines, Payload, Release, Retired, Runs, Updated, Upgrade, span},
    image::Image,
    link::Link,
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// The first seconds of a lease are owed in any case.
const OWED_SECS: u64 = 60;

impl Said {
    /// As the flags have it.
    pub(super) fn gate(&self) -> Result<Gate> {
        let check = self.check.clone();
        if let Some(path) = check.as_ref().filter(|path| !path.starts_with('/')) {
            let words = format!("--check is {path:?}: a path, as /health");
            return Err(Fault::new(&fault::USAGE, words, "begin it with /"));
        }
        let [deadline, probation, drain] = [self.deadline, self.probation, self.drain].map(Duration::from_secs);
        Ok(Gate { deadline, probation, drain, check })
    }
}

/// What runs, in short.
fn what(release: &Release) -> String {
    match (release.manifest.container(), release.manifest.component()) {
        (Some(container), _) => format!("{} sha256:{}", container.image, &hex::encode(container.digest)[..12]),
        (None, Some(component)) => format!("component {}", &hex::encode(component.hash)[..12]),
        (None, None) => "-".into(),
    }
}

/// A release, for programs.
fn release_of(release: &Release) -> Value {
    let container = release.manifest.container();
    json!({
        "release": release.number, "since_ms": release.since_ms, "of": release.of,
        "workload": hex::encode(release.manifest.workload()),
        "image": container.map(|container| container.image.clone()),
        "digest": container.map(|container| format!("sha256:{}", hex::encode(container.digest))),
        "component": release.manifest.component().map(|component| hex::encode(component.hash)),
    })
}

fn retired_of(retired: &Retired) -> Value {
    json!({
        "release": retired.release, "leases": retired.leases, "refunded_wei": retired.refunded.to_string(),
        "left": retired.left,
    })
}

/// What is said anew, with what of it stands on lines of a file.
fn drafted(args: &AppUpdate, running: &Release) -> Result<(Draft, Lines, bool)> {
    let mut flags = Draft { name: Some(args.name.app.clone()), ..args.draft() };
    flags.env = image::env(&args.container)?;
    let before = running.draft.clone();
    if let Some(file) = args.file.as_deref().filter(|file| has_ending(file, "toml")) {
        let text = String::from_utf8(limited(file, FILE_BYTES_MAX as u64, &fault::COMPONENT)?)
            .map_err(|_| Fault::new(&fault::SETTINGS, "it is not UTF-8", "write it anew").at(file.display()))?;
        let (draft, mut lines, wrongs) = Draft::parse_all(&text).map_err(|error| told(error.into(), file))?;
        let draft = flags.clone().or(draft);
        lines.retain(|key, _| !flags.says(key));
        // What is wrong with the file is told with all the rest.
        draft.check_all(&lines, wrongs).map_err(|wrongs| all_told(&wrongs, file))?;
        return Ok((draft, lines, true));
    }
    // A variable that is said is said beside those that are there.
    if let (Some(said), Some(env)) = (&mut flags.env, &before.env) {
        env.iter().for_each(|(key, value)| _ = said.entry(key.clone()).or_insert_with(|| value.clone()));
    }
    let mut draft = flags.or(before);
    if let Some(file) = &args.file {
        let said = Some(file.to_string_lossy().into_owned());
        (draft.component, draft.image) = match image::is_meant(file, &args.container) {
            true => (None, said),
            false => (said, None),
        };
    }
    Ok((draft, Lines::new(), false))
}

/// What the gate is, and what both releases cost beside each other.
fn tell_overlap(upgrade: &Upgrade, gate: &Gate, out: Out) -> U256 {
    let secs = gate.most().as_secs().max(OWED_SECS);
    let most = U256::from(upgrade.plan.rate()) * U256::from(secs);
    let (deadline, probation) = (span(gate.deadline.as_secs()), gate.probation.as_secs());
    let check = gate.check.as_ref().map(|path| format!(", and answer {path}")).unwrap_or_default();
    out.say(format!(
        "release {} takes over from release {} once all its replicas were ready for {probation} s{check}; if not within \
         {deadline} it ends, and release {} runs on. Beside each other they cost {} more at most, for {}",
        upgrade.release.number,
        upgrade.from,
        upgrade.from,
        money::show(most),
        span(secs),
    ));
    most
}

/// Tells a plan; whether it is to be done.
fn is_agreed(upgrade: &Upgrade, gate: &Gate, asked: &Asked, out: Out) -> Result<bool> {
    let name = &upgrade.release.manifest.name;
    out.say(format!("{name}: {}, {} replicas", what(&upgrade.release), upgrade.plan.terms.replicas));
    tell_plan(&upgrade.plan, out);
    let most = tell_overlap(upgrade, gate, out);
    if asked.dry_run {
        let mut value = plan_of(&upgrade.plan);
        value["schema"] = json!("hodei.app.update.plan/1");
        value["name"] = json!(name);
        value["from"] = json!(upgrade.from);
        value["release"] = release_of(&upgrade.release);
        value["beside_hour_wei"] = json!((U256::from(upgrade.beside) * U256::from(3600)).to_string());
        value["overlap_secs"] = json!(gate.most().as_secs().max(OWED_SECS));
        value["overlap_wei"] = json!(most.to_string());
        out.result("", &value);
        return Ok(false);
    }
    out.confirm(&format!("Put {} in escrow and bring it?", money::show(upgrade.plan.escrow())), asked.yes)?;
    Ok(true)
}

fn tell_updated(name: &str, updated: &Updated, escrow: Option<U256>, out: Out) {
    let (retired, ms) = (&updated.retired, updated.took.as_millis() as u64);
    let old = match &retired.left {
        None => format!("{} leases before it ended, {} came back", retired.leases, money::exact(retired.refunded)),
        Some(why) => format!("what ran before could not be ended yet ({why}): `hodei app serve` or `keep` does it"),
    };
    let replicas = updated.replicas.iter().map(|(lease, node)| json!({ "lease": lease, "node": node.to_string() }));
    out.result(
        format!("{name} runs release {} after {}.{} s; {old}", updated.release, ms / 1000, ms % 1000 / 100),
        &json!({
            "schema": "hodei.app.update/1", "name": name, "release": updated.release, "ready_ms": ms,
            "replicas": replicas.collect::<Vec<_>>(), "escrow_wei": escrow.map(|wei| wei.to_string()),
            "retired": retired_of(retired),
        }),
    );
    out.next(format!("hodei app show {name}"));
}

/// `hodei app update`
pub(crate) async fn update(args: &AppUpdate, session: &Session, out: Out) -> Result<()> {
    let apps = apps(session).await?;
    let (name, gate) = (&args.name.app, args.gate.gate()?);
    if args.abort {
        let retired = apps.abort(name).await.map_err(sdk_fault)?;
        out.result(
            format!("{name}: {} leases ended, {} came back", retired.leases, money::exact(retired.refunded)),
            &json!({ "schema": "hodei.app.abort/1", "name": name, "retired": retired_of(&retired) }),
        );
        return Ok(());
    }
    if args.resume {
        let updated = apps.resume(name, &gate, stopped(false)?, &mut teller(out)).await.map_err(sdk_fault)?;
        tell_updated(name, &updated, None, out);
        return Ok(());
    }
    let record = apps.record(name).map_err(sdk_fault)?;
    if let Some(project) = apps.project_of(name).map_err(sdk_fault)? {
        let words = format!("{name} belongs to the project {project}, and is what its file says");
        let help = "change the file, and deploy it again: hodei deploy compose.yaml";
        return Err(Fault::new(&fault::EXISTS, words, help));
    }
    let releases = apps.releases(name).map_err(sdk_fault)?;
    let running = releases.iter().find(|release| release.number == record.release);
    let gone = || Fault::new(&fault::NO_RELEASE, "the record of what runs is gone", "put back a copy of it");
    let running = running.ok_or_else(gone)?;
    let (mut draft, lines, is_file) = drafted(args, running)?;
    if draft.replicas.is_none() || !is_file && args.size.replicas.is_none() {
        draft.replicas = Some(record.replicas.into());
    }
    let at = args.file.clone().unwrap_or_else(|| name.into());
    let file = |fault| told(fault, &at);
    let spec = draft.check(&lines).map_err(|broken| file(broken.into()))?;
    let folder = match is_file {
        true => at.parent().unwrap_or(Path::new("")),
        false => Path::new(""),
    };
    let found: Found = match (&spec.runs, &args.file) {
        (Runs::Component(component), Some(_)) => Found::Component(wasm(&folder.join(component))?),
        (Runs::Component(_), None) => Found::Component(apps.component(running).map_err(sdk_fault)?),
        (Runs::Container(contained), Some(_)) => {
            let source = image::Source::of(&contained.image, folder, &args.container)?;
            let image = source.find(apps.blobs(), out).await.map_err(file)?;
            Found::Image(source, Box::new(image))
        }
        (Runs::Container(_), None) => Found::Same,
    };
    let payload = match (&found, running.manifest.container()) {
        (Found::Component(wasm), _) => Payload::Component(wasm),
        (Found::Image(_, image), _) => Payload::Image(image),
        (Found::Same, Some(container)) => Payload::Same(container),
        (Found::Same, None) => return Err(gone()),
    };
    let secs = args.terms.term.is_some().then_some(spec.terms.secs);
    let upgrade = apps.plan_update(&spec, &lines, &payload, secs).await.map_err(file)?;
    if let Found::Image(_, image) = &found {
        let digest = hex::encode(image.digest);
        out.say(format!(
            "{}: sha256:{digest}, {} in {} layers",
            image.reference,
            bytes(image.bytes()),
            image.layers.len()
        ));
    }
    if !is_agreed(&upgrade, &gate, &args.plan, out)? {
        return Ok(());
    }
    let stop = stopped(false)?;
    if let Found::Image(source, image) = &found {
        source.pull(image, apps.blobs(), out).await.map_err(file)?;
    }
    let escrow = upgrade.plan.deposit;
    let updated = apps.update(upgrade, Some(payload), &gate, stop, &mut teller(out)).await.map_err(sdk_fault)?;
    tell_updated(name, &updated, Some(escrow), out);
    Ok(())
}

/// What a release is made of.
enum Found {
    Component(Vec<u8>),
    Image(image::Source, Box<Image>),
    /// The image that runs.
    Same,
}

/// `hodei app rollback`
pub(crate) async fn rollback(args: &AppRollback, session: &Session, out: Out) -> Result<()> {
    let apps = apps(session).await?;
    let (name, gate) = (&args.name.app, args.gate.gate()?);
    let upgrade = apps.plan_rollback(name, args.release).await.map_err(sdk_fault)?;
    if let Some(of) = upgrade.release.of {
        out.say(format!("{name}: back to what release {of} was"));
    }
    if !is_agreed(&upgrade, &gate, &args.plan, out)? {
        return Ok(());
    }
    let escrow = upgrade.plan.deposit;
    let stop = stopped(false)?;
    let updated = apps.update(upgrade, None, &gate, stop, &mut teller(out)).await.map_err(sdk_fault)?;
    apps.unmark(name).map_err(sdk_fault)?;
    tell_updated(name, &updated, Some(escrow), out);
    Ok(())
}

/// `hodei app releases`
pub(super) fn releases(args: &AppName, apps: &Apps<Link>, out: Out) -> Result<()> {
    let name = &args.app;
    let (record, releases) = (apps.record(name).map_err(sdk_fault)?, apps.releases(name).map_err(sdk_fault)?);
    let state = |release: &Release| match release.number {
        number if number == record.release => "runs",
        number if Some(number) == record.staged => "on its way",
        _ => "was",
    };
    let mut rows = Vec::new();
    for release in &releases {
        let of = release.of.map_or_else(|| "-".into(), |of| of.to_string());
        rows.push(vec![release.number.to_string(), state(release).into(), minute(release.since_ms), what(release), of]);
        if out.json {
            let mut value = release_of(release);
            value["schema"] = json!("hodei.app.release/1");
            value["name"] = json!(name);
            value["state"] = json!(state(release));
            out.result("", &value);
        }
    }
    if !out.json {
        out.line(&table(&["RELEASE", "STATE", "SINCE", "WHAT", "BACK TO"], &rows));
    }
    if record.staged.is_some() {
        out.next(format!("hodei app update {name} --resume, or --abort, if nobody brings it now"));
    } else if releases.len() > 1 {
        out.next(format!("hodei app rollback {name}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: Option<&str>) -> Said {
        Said { deadline: 120, probation: 10, drain: 5, check: check.map(Into::into) }
    }

    #[test]
    fn what_is_checked_is_a_path() {
        assert_eq!(said(Some("/health")).gate().unwrap().check.as_deref(), Some("/health"));
        assert!(said(Some("health")).gate().is_err_and(|fault| fault.message.contains("a path")));
        assert_eq!(said(None).gate().unwrap().most(), Duration::from_secs(135));
    }
}
