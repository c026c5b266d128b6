//! Read what a person wants of volumes.

use crate::app::{
    draft::Draft,
    spec::{Broken, Checked},
    unit,
};
use hodei_types::app::{
    is_name,
    volume::{VOLUME_BYTES_MAX, VOLUME_BYTES_MIN, VOLUMES_MAX, Volume, is_volume_path},
};
use serde::{Deserialize, Serialize};

/// Of one that does not say how large it is.
const VOLUME_BYTES: u64 = 1 << 30;
const SNAPSHOT_SECS: u64 = 60;
const SNAPSHOT_SECS_MIN: u64 = 5;
const SNAPSHOT_SECS_MAX: u64 = 24 * 3600;

/// A volume as it is said; nothing of it is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeDraft {
    /// A label of DNS.
    pub name: String,
    /// Where it is in the container.
    pub path: String,
    /// How large it is, as `"1GiB"`, which it is without it.
    pub size: Option<String>,
}

/// `NAME:/PATH`, or `NAME:/PATH:SIZE`.
pub fn volume_flag(text: &str) -> Result<VolumeDraft, String> {
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(path), size, None) if !name.is_empty() && path.starts_with('/') => {
            Ok(VolumeDraft { name: name.into(), path: path.into(), size: size.map(str::to_owned) })
        }
        _ => Err("NAME:/PATH, or NAME:/PATH:SIZE, as data:/var/lib/data:2GiB".into()),
    }
}

/// From one snapshot to the next; what was said was checked when it was deployed.
pub(crate) fn snapshot_secs(draft: &Draft) -> u64 {
    let said = draft.snapshot.as_deref().and_then(|text| unit::TIME.read(text));
    said.unwrap_or(SNAPSHOT_SECS).clamp(SNAPSHOT_SECS_MIN, SNAPSHOT_SECS_MAX)
}

impl Checked<'_> {
    /// Volumes within the rules.
    pub(crate) fn volumes(&self, draft: &Draft) -> Result<Vec<Volume>, Broken> {
        let said = draft.volumes.as_deref().unwrap_or_default();
        let bounds = (SNAPSHOT_SECS_MIN, SNAPSHOT_SECS_MAX);
        self.amount("snapshot", draft.snapshot.as_ref(), SNAPSHOT_SECS, bounds, &unit::TIME)?;
        if said.is_empty() {
            let alone = ["snapshot", "bucket"].into_iter().find(|key| draft.says(key));
            return match alone {
                Some(key) => Err(self.broken(key, "said", "only of volumes, and there are none", None)),
                None => Ok(Vec::new()),
            };
        }
        if said.len() > VOLUMES_MAX {
            let rule = format!("at most {VOLUMES_MAX}");
            return Err(self.broken("volumes", said.len(), &rule, None));
        }
        if draft.replicas.is_some_and(|replicas| replicas != 1) {
            let rule = "what has volumes runs once: each replica would write a disk of its own";
            return Err(self.broken("replicas", draft.replicas.unwrap_or_default(), rule, Some("1".into())));
        }
        if draft.class.as_deref().is_some_and(|class| class != "instant") {
            let rule = "what has volumes is placed at once, and stays";
            let class = draft.class.as_deref().unwrap_or_default();
            return Err(self.broken("class", format!("{class:?}"), rule, Some("\"instant\"".into())));
        }
        let mut volumes: Vec<Volume> = Vec::new();
        for one in said {
            let found = |what: &str| format!("{what:?}");
            if !is_name(&one.name) {
                let rule = "a volume's name is 1 to 63 of a-z, 0-9 and -, with no - first or last";
                return Err(self.broken("volumes", found(&one.name), rule, None));
            }
            if !is_volume_path(&one.path) {
                let rule = "a way from /, without .. and a / at its end, and not into /proc, /sys or /dev";
                return Err(self.broken("volumes", found(&one.path), rule, None));
            }
            if volumes.iter().any(|other| other.name == one.name || other.path == one.path) {
                return Err(self.broken("volumes", found(&one.name), "each has a name and a path of its own", None));
            }
            let bounds = (VOLUME_BYTES_MIN, VOLUME_BYTES_MAX);
            let bytes = self.amount("volumes", one.size.as_ref(), VOLUME_BYTES, bounds, &unit::SIZE)?;
            volumes.push(Volume { name: one.name.clone(), path: one.path.clone(), bytes });
        }
        Ok(volumes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::spec::Runs;

    #[test]
    fn volumes_are_paid_as_disk_twice_and_run_once() {
        let of = |text: &str| {
            let (draft, lines) = Draft::parse(&format!("image = \"db\"\n{text}")).unwrap();
            draft.check(&lines)
        };
        let spec =
            of("volumes = [{ name = \"data\", path = \"/data\", size = \"128MiB\" }]\ndisk = \"64MiB\"").unwrap();
        // A snapshot takes as much again on its host.
        assert_eq!(spec.terms.each.diskBytes, (64 + 2 * 128) << 20);
        let text = toml::to_string(&spec.draft).unwrap();
        assert_eq!(Draft::parse(&text).unwrap().0, spec.draft, "as a release keeps it");
        let Runs::Container(contained) = &spec.runs else { panic!("a component") };
        assert_eq!(contained.volumes, [Volume { name: "data".into(), path: "/data".into(), bytes: 128 << 20 }]);
        assert_eq!((snapshot_secs(&spec.draft), snapshot_secs(&Draft::default())), (60, 60));
        let volume = "volumes = [{ name = \"data\", path = \"/data\" }]";
        assert_eq!(snapshot_secs(&of(&format!("{volume}\nsnapshot = \"10s\"")).unwrap().draft), 10);
        for (text, key) in [
            (format!("{volume}\nreplicas = 2"), "replicas"),
            (format!("{volume}\nclass = \"preemptible\""), "class"),
            (format!("{volume}\nsnapshot = \"1s\""), "snapshot"),
            ("snapshot = \"10s\"".into(), "snapshot"),
            ("bucket = \"b\"".into(), "bucket"),
            ("volumes = [{ name = \"Data\", path = \"/data\" }]".into(), "volumes"),
            ("volumes = [{ name = \"data\", path = \"/proc\" }]".into(), "volumes"),
            ("volumes = [{ name = \"data\", path = \"data\" }]".into(), "volumes"),
            ("volumes = [{ name = \"data\", path = \"/data\", size = \"1MiB\" }]".into(), "volumes"),
            ("volumes = [{ name = \"a\", path = \"/a\" }, { name = \"a\", path = \"/b\" }]".into(), "volumes"),
        ] {
            let broken = of(&text).unwrap_err();
            assert_eq!((broken.key, broken.line.is_some()), (key, true), "{broken}");
        }
        let (draft, lines) = Draft::parse(&format!("component = \"a.wasm\"\n{volume}")).unwrap();
        assert_eq!(draft.check(&lines).unwrap_err().key, "volumes", "a component has no disk");
    }

    #[test]
    fn a_flag_names_a_volume_its_place_and_its_size() {
        let read = |text: &str| volume_flag(text).ok().map(|read| (read.name, read.path, read.size));
        assert_eq!(read("data:/data"), Some(("data".into(), "/data".into(), None)));
        assert_eq!(read("data:/a/b:2GiB"), Some(("data".into(), "/a/b".into(), Some("2GiB".into()))));
        for text in ["data", "/data", ":/data", "data:data", "a:/b:1:2"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
