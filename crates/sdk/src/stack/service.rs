//! Turn one service into what an order and a manifest are made of.

use super::{Beside, broken, door, given, label, note};
use crate::{
    app::{Contained, Draft, Runs, Spec, VolumeDraft, cpus, size},
    compose::{Broken, Compose, Health, Note, Probe, Restart, Service, Source},
};
use hodei_types::app::container::{self, HEALTH_MS_MAX, STOP_SECS_MAX};

/// Memory that every container has as a folder.
const SCRATCH: [&str; 3] = ["/tmp", "/run", "/dev/shm"];

/// Sizes are said in units of this.
const MIB: u64 = 1 << 20;

pub(super) fn spec(
    (compose, service): (&Compose, &Service),
    app: String,
    terms: &Draft,
    (beside, notes): (Beside<'_>, &mut Vec<Note>),
) -> Result<Spec, Broken> {
    let volumes = mounts((compose, service), notes)?;
    let mut said = service.hodei.terms.clone();
    if volumes.is_empty() {
        // Said for all services, of those that have some.
        (said.snapshot, said.bucket) = (None, None);
    }
    let key = |name: &str| format!("services.{}.{name}", service.name);
    let port = door::port(service, notes)?;
    let image = match (&service.build, &service.image) {
        (Some(build), _) if build.context.contains("://") || build.context.starts_with("git@") => {
            let rule = "a folder of this machine is built: fetch it first";
            return Err(broken(build.line, &key("build"), &format!("{:?}", build.context), rule));
        }
        (Some(build), _) => build.context.clone(),
        (None, Some(image)) => image.clone(),
        (None, None) => return Err(broken(service.line, &key("image"), "not said", "an image or a build")),
    };
    let draft = Draft {
        name: Some(app),
        image: Some(image),
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        env: Some(service.environment.clone()),
        workdir: service.working_dir.clone(),
        user: service.user.clone(),
        port: Some(port.into()),
        read_only: Some(service.is_read_only),
        replicas: Some(service.replicas),
        cpu: service.cpu_milli.map(cpus),
        memory: service.memory_bytes.map(|bytes| size(bytes.div_ceil(MIB) * MIB)),
        volumes: (!volumes.is_empty()).then_some(volumes),
        ..terms.clone().or(Draft { port: None, ..said })
    };
    let mut lines = service.hodei.lines.clone();
    lines.retain(|key, _| !terms.says(key));
    let mut spec = draft.check(&lines).map_err(|error| Broken {
        file: None,
        line: error.line.unwrap_or(service.line),
        key: key(error.key),
        found: error.found,
        rule: error.rule,
        nearest: error.nearest,
    })?;
    if let Runs::Container(contained) = &mut spec.runs {
        contain(service, contained, notes)?;
        contained.files = given::files((compose, service), beside, notes)?;
    }
    Ok(spec)
}

/// What a draft has no words for.
fn contain(service: &Service, contained: &mut Contained, notes: &mut Vec<Note>) -> Result<(), Broken> {
    let key = |name: &str| format!("services.{}.{name}", service.name);
    contained.restart = match service.restart.when {
        Restart::Never => container::Restart::Never,
        Restart::Always | Restart::UnlessStopped => container::Restart::Always,
        Restart::Failure(times) => {
            if times.is_some() {
                notes.push(note(service.line, &key("restart"), "it begins anew later each time, however often"));
            }
            container::Restart::OnFailure
        }
    };
    contained.stop_secs = service.stop_ms.map(|ms| ms.div_ceil(1000));
    if let Some(secs) = contained.stop_secs.filter(|secs| *secs > STOP_SECS_MAX) {
        let rule = format!("at most {STOP_SECS_MAX} seconds");
        return Err(broken(service.line, &key("stop_grace_period"), &format!("{secs} seconds"), &rule));
    }
    contained.health = match &service.health {
        None => None,
        // The image's own test does not count either.
        Some(Health::Off) => Some(asked(&Probe::default(), Vec::new())),
        Some(Health::Asked(probe)) => {
            let longest = probe.interval_ms.max(probe.timeout_ms).max(probe.start_period_ms);
            if longest > HEALTH_MS_MAX {
                let rule = format!("times of at most {} seconds", HEALTH_MS_MAX / 1000);
                return Err(broken(service.line, &key("healthcheck"), &format!("{longest} ms"), &rule));
            }
            probe.test.clone().map(|test| asked(probe, test))
        }
    };
    Ok(())
}

/// A test as hosts make it.
pub(super) fn asked(probe: &Probe, test: Vec<String>) -> container::Health {
    container::Health {
        test,
        every_ms: probe.interval_ms,
        timeout_ms: probe.timeout_ms,
        retries: probe.retries,
        start_ms: probe.start_period_ms,
    }
}

/// Volumes that it mounts; refuses what hosts do not bring yet.
fn mounts((compose, service): (&Compose, &Service), notes: &mut Vec<Note>) -> Result<Vec<VolumeDraft>, Broken> {
    let key = format!("services.{}.volumes", service.name);
    let mut volumes = Vec::new();
    for mount in &service.mounts {
        let (found, rule) = match &mount.source {
            Source::Anonymous => {
                notes.push(note(mount.line, &key, "it is as the image has it whenever the container starts"));
                continue;
            }
            Source::Scratch(size) if SCRATCH.contains(&mount.target.as_str()) => {
                if size.is_some() {
                    notes.push(note(mount.line, &key, "a host gives it up to half of the memory"));
                }
                continue;
            }
            Source::Scratch(_) => {
                let rule = "not yet: of a container's folders /tmp, /run and /dev/shm are memory: use one of these";
                (format!("a tmpfs at {}", mount.target), rule)
            }
            Source::Volume(name) if !mount.is_read_only => {
                let bytes = compose.volumes.get(name).and_then(|volume| volume.size).or(service.hodei.volume);
                if bytes.is_none() {
                    notes.push(note(mount.line, &key, "it has 1GiB: say another size as the volume's x-hodei"));
                }
                let size = bytes.map(|bytes| size(bytes.div_ceil(MIB) * MIB));
                volumes.push(VolumeDraft { name: label(name), path: mount.target.clone(), size });
                continue;
            }
            Source::Volume(name) => {
                (format!("volume {name:?}, only read"), "not yet: a volume is its one service's, to read and to write")
            }
            // Given as files, not mounted.
            Source::Project(_) => continue,
        };
        return Err(broken(mount.line, &key, &found, rule));
    }
    Ok(volumes)
}
