//! Find the objects in documents and lists, and refuse kinds that nothing runs.

use super::{
    super::{
        at::At,
        broken::{Broken, Note},
        store::is_name,
        tree::Node,
    },
    keys::{self, Table},
};
use crate::nearest::nearest;
use std::collections::BTreeMap;

/// Objects that are read, those of lists counted one by one.
pub const OBJECTS_MAX: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Deployment,
    Ingress,
    Namespace,
    Claim,
    Pod,
    Secret,
    Service,
    StatefulSet,
}

/// What is read, by the one version of each.
const KINDS: [(&str, &str, Kind); 9] = [
    ("ConfigMap", "v1", Kind::ConfigMap),
    ("Deployment", "apps/v1", Kind::Deployment),
    ("Ingress", "networking.k8s.io/v1", Kind::Ingress),
    ("Namespace", "v1", Kind::Namespace),
    ("PersistentVolumeClaim", "v1", Kind::Claim),
    ("Pod", "v1", Kind::Pod),
    ("Secret", "v1", Kind::Secret),
    ("Service", "v1", Kind::Service),
    ("StatefulSet", "apps/v1", Kind::StatefulSet),
];

const NO_API: &str = "no server of a cluster is asked: remove it";
const ENDS: &str = "not yet: what ends by itself is not run: let a workload do it, or run it from your machine";

/// What is known and not read, and what to do instead.
const REFUSED: [(&str, &str); 24] = [
    ("APIService", NO_API),
    ("ClusterRole", NO_API),
    ("ClusterRoleBinding", NO_API),
    ("CronJob", ENDS),
    ("CustomResourceDefinition", NO_API),
    ("DaemonSet", "there is no fixed number of hosts: make it a Deployment with replicas"),
    ("Endpoints", "a Service chooses a workload of these files by its labels: remove it"),
    ("EndpointSlice", "a Service chooses a workload of these files by its labels: remove it"),
    ("Gateway", "publish by an Ingress, or a Service of type LoadBalancer"),
    ("HTTPRoute", "publish by an Ingress, or a Service of type LoadBalancer"),
    ("HorizontalPodAutoscaler", "not yet: say replicas, and hodei app scale later: remove it"),
    ("IngressClass", "the door is hodei app serve: remove it"),
    ("Job", ENDS),
    ("Kustomization", "deploy what kubectl kustomize prints"),
    ("LimitRange", "say resources at each container: remove it"),
    (
        "NetworkPolicy",
        "workloads of these files reach all Services of them, and nothing outside: remove it if that suits",
    ),
    ("PersistentVolume", "a volume is a disk of its host: keep the PersistentVolumeClaim, and remove it"),
    ("PodDisruptionBudget", "a lost replica is placed again: remove it"),
    ("ReplicaSet", "make it a Deployment"),
    ("ReplicationController", "make it a Deployment"),
    ("Role", NO_API),
    ("RoleBinding", NO_API),
    ("ServiceAccount", NO_API),
    ("StorageClass", "a volume is a disk of its host: remove it"),
];

/// Something that a manifest declares.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    pub(super) namespace: Option<(&'a str, usize)>,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    /// `KIND/NAME`.
    pub(super) at: At<'a>,
}

impl<'a> Object<'a> {
    /// Its keys by a table, and what is noted of them.
    pub(super) fn fields(
        &self,
        table: &'static Table,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<(&'static str, At<'a>)>, Broken> {
        self.at.fields_or(table, notes, "")
    }

    pub(super) fn spec(&self, notes: &mut Vec<Note>) -> Result<Option<At<'a>>, Broken> {
        Ok(self.fields(&keys::OBJECT, notes)?.into_iter().find(|(key, _)| *key == "spec").map(|(_, at)| at))
    }

    pub(super) fn must_spec(&self, notes: &mut Vec<Note>) -> Result<At<'a>, Broken> {
        self.spec(notes)?.ok_or_else(|| self.at.broken("it has a spec", None))
    }
}

/// Whether a tree is an object of Kubernetes, by its first keys.
pub(super) fn is_object(node: &Node) -> bool {
    node.get("apiVersion").is_some() && node.get("kind").is_some()
}

/// All objects of documents.
pub(super) fn objects<'a>(documents: &'a [Node], notes: &mut Vec<Note>) -> Result<Vec<Object<'a>>, Broken> {
    let mut all: Vec<Object<'a>> = Vec::new();
    for node in documents {
        add(At::root(node), false, &mut all, notes)?;
    }
    let mut lines: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
    for object in &all {
        if let Some(line) = lines.insert((object.kind, object.name), object.at.line) {
            let rule =
                format!("there is one of that kind and name before, {} lines up: remove one", object.at.line - line);
            return Err(object.at.broken(rule, None));
        }
    }
    let mut said = all.iter().filter_map(|object| object.namespace.map(|space| (space, object)));
    if let Some(((first, _), _)) = said.next()
        && let Some(((other, line), object)) = said.find(|((name, _), _)| *name != first)
    {
        let rule = format!("one namespace is one project, and {first:?} was said before: deploy the other by itself");
        return Err(Broken { line, found: format!("in {other:?}"), ..object.at.broken(rule, None) });
    }
    Ok(all)
}

fn add<'a>(at: At<'a>, is_listed: bool, all: &mut Vec<Object<'a>>, notes: &mut Vec<Note>) -> Result<(), Broken> {
    if at.is_null() && !is_listed {
        return Ok(());
    }
    let fields = at.entries()?;
    let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, at)| at);
    let missing = || at.broken("an object has apiVersion, kind and metadata.name", None);
    let kind = field("kind").ok_or_else(missing)?;
    let word = kind.said()?;
    let version = field("apiVersion").ok_or_else(missing)?;
    if word == "List" && !is_listed {
        for (key, at) in at.fields_or(&keys::LIST, notes, "")? {
            if key == "items" {
                at.items()?.into_iter().try_for_each(|item| add(item, true, all, notes))?;
            }
        }
        return Ok(());
    }
    let Some((word, only, which)) = KINDS.iter().find(|(name, ..)| *name == word) else {
        let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == word) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
            let rule = format!("one of {}: remove it, or say it by one of these", names.join(", "));
            return Err(kind.broken(rule, nearest(word, &names)));
        };
        return Err(kind.broken(*why, None));
    };
    if version.said()? != *only {
        return Err(version.broken(format!("a {word} is of {only}"), Some(format!("{only:?}"))));
    }
    if all.len() >= OBJECTS_MAX {
        return Err(at.broken(format!("at most {OBJECTS_MAX} objects are read"), None));
    }
    let meta = field("metadata").ok_or_else(missing)?;
    let (mut name, mut namespace, mut labels) = (None, None, BTreeMap::new());
    let mut said = meta.clone();
    said.path = format!("{word}.metadata");
    for (key, at) in said.fields_or(&keys::METADATA, notes, "")? {
        match key {
            "name" => name = Some(at.clone()),
            "namespace" => namespace = Some((at.said()?, at.line)),
            _ => labels = pairs(&at)?,
        }
    }
    let said = name.ok_or_else(missing)?;
    let name = said.said()?;
    let is_file = matches!(which, Kind::ConfigMap | Kind::Secret | Kind::Claim | Kind::Ingress);
    if !(is_file && is_name(name) || hodei_types::app::is_name(name)) {
        return Err(said.broken("1 to 63 of a-z, 0-9 and -, with no - first or last", None));
    }
    let (node, line, path) = (at.node, kind.line.min(at.line), format!("{word}/{name}"));
    all.push(Object { kind: *which, name, namespace, labels, at: At { node, line, path } });
    Ok(())
}

/// A mapping of texts.
pub(super) fn pairs<'a>(at: &At<'a>) -> Result<BTreeMap<&'a str, &'a str>, Broken> {
    at.entries()?.into_iter().map(|(name, at)| Ok((name, at.text()?))).collect()
}
