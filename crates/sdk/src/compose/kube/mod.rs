//! Read manifests of Kubernetes as services: what of them is deployed, noted and refused, each with its line.
//!
//! ```text
//! texts ─ tree ─► documents ─ object ─► objects ─ data, workload, front ─► Compose, as of a compose file
//! ```
//! What comes of it is priced, ordered, reached by name and updated as any compose file's services. No key is passed over
//! in silence, as docs/kubernetes.md lists them.
//!
//! ```
//! let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: web, image: nginx:1.27}]\n";
//! let read = hodei_sdk::compose::kube::read(&[("web.yaml".into(), text.into())]).unwrap();
//! assert_eq!(read.compose.services[0].image.as_deref(), Some("nginx:1.27"));
//! ```

mod container;
mod data;
mod env;
mod fill;
mod front;
mod keys;
mod object;
mod place;
mod probe;
mod quantity;
#[cfg(test)]
mod tests;
mod volume;
mod workload;

pub use object::OBJECTS_MAX;
pub use place::Places;

use super::{
    Broken, Compose, DECLARED_MAX, Note, SERVICES_MAX, TEXT_BYTES_MAX,
    broken::Fault,
    tree::{self, Node, Weight},
};
use data::Stores;
use object::{Kind, Object};
use workload::Workload;

/// Files that one project may be of.
pub const FILES_MAX: usize = 64;
/// Documents of one file.
pub const DOCUMENTS_MAX: usize = 256;

/// What is deployed, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// Its lines are those of all files one after the other: `places` tells them apart. Its name is the namespace.
    pub compose: Compose,
    pub places: Places,
}

/// What is needed while objects are read.
struct Walk<'a> {
    stores: &'a Stores,
    notes: Vec<Note>,
    /// Bytes that variables may still bring.
    room: usize,
}

/// Whether a text's first document is an object of Kubernetes.
pub fn is_meant(text: &str) -> bool {
    // What comes after it may be broken: it is told then, as what it is.
    let first = match tree::documents(text, Weight::default(), DOCUMENTS_MAX) {
        Ok((documents, _)) => documents.into_iter().find(|node| node.value != tree::Value::Null),
        Err(_) => return is_begun(text),
    };
    first.is_some_and(|node| object::is_object(&node))
}

/// Whether lines of a text that cannot be read say what an object says.
fn is_begun(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.strip_prefix('\u{feff}').unwrap_or(line).starts_with(key));
    has("apiVersion:") && has("kind:")
}

/// What files say, each by its name; or the first rule that is not kept.
pub fn read(files: &[(String, String)]) -> Result<Manifests, Broken> {
    let mut places = Places::of(files);
    let documents = documents(files, &places).map_err(|broken| places.broken(broken))?;
    let compose = compose(&documents, &mut places);
    let compose = compose.map_err(|broken| places.broken(broken))?;
    Ok(Manifests { compose, places })
}

fn documents(files: &[(String, String)], places: &Places) -> Result<Vec<Node>, Broken> {
    let fault = |found: String, rule: String| Fault { found, rule }.at(None, 1, "the folder");
    if files.len() > FILES_MAX {
        return Err(fault(format!("{} files", files.len()), format!("at most {FILES_MAX} files are read")));
    }
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    if bytes > TEXT_BYTES_MAX {
        return Err(fault(format!("{bytes} bytes"), format!("at most {TEXT_BYTES_MAX} bytes are read")));
    }
    let mut all = Vec::new();
    let mut weight = Weight::default();
    for ((_, text), (_, before)) in files.iter().zip(&places.files) {
        let moved = |broken: Broken| Broken { line: broken.line + before, ..broken };
        let (nodes, sum) = tree::documents(text, weight, DOCUMENTS_MAX).map_err(moved)?;
        weight = sum;
        all.extend(nodes.into_iter().map(|mut node| {
            node.shift(*before);
            node
        }));
    }
    Ok(all)
}

fn compose(documents: &[Node], places: &mut Places) -> Result<Compose, Broken> {
    let mut notes = Vec::new();
    let objects = object::objects(documents, &mut notes)?;
    let of = |kind: Kind| objects.iter().filter(move |object| object.kind == kind);
    let mut stores = Stores::default();
    for object in of(Kind::ConfigMap).chain(of(Kind::Secret)) {
        stores.add(object, &mut notes)?;
    }
    for object in of(Kind::Namespace) {
        if let Some(at) = object.spec(&mut notes)? {
            at.fields_or(&keys::NAMESPACE, &mut notes, "")?;
        }
    }
    let mut compose = Compose::default();
    for object in of(Kind::Claim) {
        let volume = volume::claimed(&object.must_spec(&mut notes)?, &mut notes)?;
        compose.volumes.insert(object.name.to_owned(), volume);
        if compose.volumes.len() > DECLARED_MAX {
            return Err(object.at.broken(format!("at most {DECLARED_MAX} claims"), None));
        }
    }
    let mut walk = Walk { stores: &stores, notes, room: TEXT_BYTES_MAX };
    let mut workloads = workloads(&objects, &mut compose, &mut walk)?;
    let services: Vec<&Object<'_>> = of(Kind::Service).collect();
    let ingresses: Vec<&Object<'_>> = of(Kind::Ingress).collect();
    front::join((&services, &ingresses), &mut workloads, &mut walk)?;
    let namespace = objects.iter().find_map(|object| object.namespace).map(|(name, _)| name);
    compose.name = namespace.filter(|name| *name != "default").map(str::to_owned);
    // What keeps data begins before what asks it; else those that stand first.
    workloads.sort_by_key(|workload| (workload.kind != "StatefulSet", workload.service.line));
    for workload in workloads {
        places.kinds.insert(workload.service.name.clone(), workload.kind);
        compose.services.push(workload.service);
    }
    compose.notes = walk.notes;
    compose.notes.sort();
    compose.notes.dedup();
    Ok(compose)
}

fn workloads<'a>(
    objects: &[Object<'a>],
    compose: &mut Compose,
    walk: &mut Walk<'_>,
) -> Result<Vec<Workload<'a>>, Broken> {
    let mut all: Vec<Workload<'a>> = Vec::new();
    for object in objects.iter().filter(|of| matches!(of.kind, Kind::Deployment | Kind::StatefulSet | Kind::Pod)) {
        if let Some(other) = all.iter().find(|other| other.service.name == object.name) {
            let rule = format!(
                "an app is called so, and {}/{} is before: call one of them otherwise",
                other.kind, object.name
            );
            return Err(object.at.broken(rule, None));
        }
        if all.len() >= SERVICES_MAX {
            return Err(object.at.broken(format!("at most {SERVICES_MAX} workloads"), None));
        }
        all.push(workload::workload(object, compose, walk)?);
    }
    if all.is_empty() {
        let line = objects.first().map_or(1, |object| object.at.line);
        let fault = Fault { found: "without a workload".into(), rule: "a Deployment, StatefulSet or Pod runs".into() };
        return Err(fault.at(None, line, "the file"));
    }
    Ok(all)
}
