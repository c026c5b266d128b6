//! Check what a person says of a container, and fill in what its image says.

use super::{
    draft::{Draft, Health as HealthText},
    spec::{Broken, Checked},
    unit,
};
use crate::image::Image;
use hodei_types::app::{
    container::{Container, HEALTH_MS_MAX, Health, Reach, Restart, STOP_SECS_MAX},
    given::Given,
    volume::Volume,
};

/// As Docker has it, where neither file nor image says it.
const HEALTH_SECS: u64 = 30;
const HEALTH_RETRIES: u64 = 3;
const STOP_SECS: u64 = 10;
/// What keys say of a container and of no component.
const KEYS: [&str; 13] = [
    "entrypoint",
    "command",
    "env",
    "workdir",
    "user",
    "port",
    "health",
    "restart",
    "stop",
    "read_only",
    "volumes",
    "snapshot",
    "bucket",
];
/// What keys say of a component and of no container.
const COMPONENT_KEYS: [&str; 3] = ["request_fuel", "request_memory", "calls"];

/// A container, within the rules; what it does not say its image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contained {
    /// As it was said: a reference, an archive or a folder.
    pub image: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub env: Vec<(String, String)>,
    pub workdir: String,
    pub user: String,
    /// Where it answers HTTP; 0 where it does not.
    pub port: Option<u16>,
    pub health: Option<Health>,
    pub restart: Restart,
    pub stop_secs: Option<u64>,
    pub is_read_only: bool,
    pub reaches: Vec<Reach>,
    pub volumes: Vec<Volume>,
    /// Given beside those of its image.
    pub files: Vec<Given>,
}

impl Contained {
    /// A container that ran, with what is said of it now; its image is the same.
    pub(super) fn over(&self, before: &Container) -> Container {
        let said = |text: &String, before: &String| if text.is_empty() { before.clone() } else { text.clone() };
        Container {
            entrypoint: self.entrypoint.clone().or_else(|| before.entrypoint.clone()),
            command: self.command.clone().or_else(|| before.command.clone()),
            env: self.env.clone(),
            workdir: said(&self.workdir, &before.workdir),
            user: said(&self.user, &before.user),
            is_read_only: self.is_read_only,
            port: self.port.unwrap_or(before.port),
            health: self.health.clone().or_else(|| before.health.clone()).filter(|health| !health.test.is_empty()),
            restart: self.restart,
            stop_secs: self.stop_secs.unwrap_or(before.stop_secs),
            volumes: self.volumes.clone(),
            files: if self.files.is_empty() { before.files.clone() } else { self.files.clone() },
            ..before.clone()
        }
    }

    /// The container of an image.
    pub(super) fn container(&self, image: &Image, salt: [u8; 16]) -> Result<Container, Broken> {
        let checked = Checked::of_flags();
        let port = match (self.port, &image.says.ports[..]) {
            (Some(port), _) => port,
            (None, [port]) => *port,
            (None, ports) => {
                let rule = format!("the image exposes {ports:?}: say where it answers HTTP, or 0 if it does not");
                let nearest = ports.first().unwrap_or(&80).to_string();
                return Err(checked.broken("port", "not said", &rule, Some(nearest)));
            }
        };
        let is_said = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
        if !image.says.has_command && !is_said(&self.entrypoint) && !is_said(&self.command) {
            let rule = "the image names nothing to start: say what is";
            return Err(checked.broken("command", "not said", rule, None));
        }
        // An image that names a test is tested as Docker would.
        let own = image.says.health.as_ref().map(|check| Health {
            test: check.test.clone(),
            every_ms: or(check.every_ms, HEALTH_SECS * 1000).min(HEALTH_MS_MAX),
            timeout_ms: or(check.timeout_ms, HEALTH_SECS * 1000).min(HEALTH_MS_MAX),
            retries: or(check.retries, HEALTH_RETRIES).min(1000),
            start_ms: check.start_ms.min(HEALTH_MS_MAX),
        });
        let health = self.health.clone().or(own).filter(|health| !health.test.is_empty());
        Ok(Container {
            image: image.reference.clone(),
            digest: image.digest,
            config: image.config,
            layers: image.layers.clone(),
            entrypoint: self.entrypoint.clone(),
            command: self.command.clone(),
            env: self.env.clone(),
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            is_read_only: self.is_read_only,
            port,
            health,
            restart: self.restart,
            stop_secs: self.stop_secs.or(image.says.stop_secs).unwrap_or(STOP_SECS).min(STOP_SECS_MAX),
            reaches: self.reaches.clone(),
            salt,
            volumes: self.volumes.clone(),
            files: self.files.clone(),
        })
    }
}

fn or(said: u64, default: u64) -> u64 {
    if said == 0 { default } else { said }
}

impl Checked<'_> {
    /// Refuses what a component's file says of a container.
    pub(super) fn component(&self, draft: &Draft) -> Result<(), Broken> {
        match KEYS.iter().find(|key| draft.says(key)) {
            Some(key) => Err(self.broken(key, "said", "only of an image: a component is started by its exports", None)),
            None => Ok(()),
        }
    }

    pub(super) fn contained(&self, draft: &Draft, image: &str) -> Result<Contained, Broken> {
        if let Some(key) = COMPONENT_KEYS.iter().find(|key| draft.says(key)) {
            return Err(self.broken(
                key,
                "said",
                "only of a component: a container is not counted by the request",
                None,
            ));
        }
        if draft.class.as_deref() == Some("on-call") {
            let rule = "only components start when they are asked";
            return Err(self.broken("class", "\"on-call\"", rule, Some("\"instant\"".into())));
        }
        let port = match draft.port {
            None => None,
            Some(port) => Some(u16::try_from(port).map_err(|_| {
                self.broken("port", port, "1 to 65535, or 0 if it answers no HTTP", Some(u16::MAX.to_string()))
            })?),
        };
        Ok(Contained {
            image: image.to_owned(),
            entrypoint: draft.entrypoint.clone(),
            command: draft.command.clone(),
            env: draft.env.clone().unwrap_or_default().into_iter().collect(),
            workdir: draft.workdir.clone().unwrap_or_default(),
            user: draft.user.clone().unwrap_or_default(),
            port,
            health: draft.health.as_ref().map(|text| self.health(text)).transpose()?,
            restart: self.restart(draft)?,
            stop_secs: match &draft.stop {
                None => None,
                stop => Some(self.amount("stop", stop.as_ref(), STOP_SECS, (0, STOP_SECS_MAX), &unit::TIME)?),
            },
            is_read_only: draft.read_only.unwrap_or_default(),
            reaches: Vec::new(),
            volumes: self.volumes(draft)?,
            files: Vec::new(),
        })
    }

    fn restart(&self, draft: &Draft) -> Result<Restart, Broken> {
        const NAMES: [&str; 3] = ["always", "on-failure", "never"];
        let Some(text) = draft.restart.as_deref() else { return Ok(Restart::Always) };
        let found = NAMES.iter().position(|name| *name == text).map(|place| Restart::ALL[place]);
        let rule = format!("one of {}", NAMES.join(", "));
        found.ok_or_else(|| self.broken("restart", format!("{text:?}"), &rule, Some("\"always\"".into())))
    }

    fn health(&self, text: &HealthText) -> Result<Health, Broken> {
        let most = HEALTH_MS_MAX / 1000;
        let secs = |found: &Option<String>, default, least| {
            self.amount("health", found.as_ref(), default, (least, most), &unit::TIME).map(|secs| secs * 1000)
        };
        Ok(Health {
            test: text.test.clone(),
            every_ms: secs(&text.every, HEALTH_SECS, 1)?,
            timeout_ms: secs(&text.timeout, HEALTH_SECS, 1)?,
            retries: self.number("health", text.retries, HEALTH_RETRIES, (1, 1000))?,
            start_ms: secs(&text.start, 0, 0)?,
        })
    }
}
