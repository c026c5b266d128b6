//! Read Deployments, StatefulSets and Pods as services.

use super::{
    super::{Compose, Service, at::At, broken::Broken, deploy, health::Restart, store::is_name},
    Walk,
    container::{Ports, User, container},
    keys,
    object::{Kind, Object, pairs},
    volume::{claimed, volumes},
};
use std::collections::BTreeMap;

/// Seconds that Kubernetes gives a pod to end, where nothing is said.
const STOP_SECS: u64 = 30;
const STOP_SECS_MAX: u64 = 86_400;

/// What Services choose from.
pub(super) struct Workload<'a> {
    pub(super) kind: &'static str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    pub(super) ports: Ports<'a>,
    pub(super) service: Service,
    /// Its pod's spec.
    pub(super) at: At<'a>,
}

pub(super) fn workload<'a>(
    object: &Object<'a>,
    compose: &mut Compose,
    walk: &mut Walk<'_>,
) -> Result<Workload<'a>, Broken> {
    let spec = object.must_spec(&mut walk.notes)?;
    let mut service = Service { name: object.name.to_owned(), line: object.at.line, replicas: 1, ..Service::default() };
    let kind = match object.kind {
        Kind::Deployment => "Deployment",
        Kind::StatefulSet => "StatefulSet",
        _ => "Pod",
    };
    if object.kind == Kind::Pod {
        let ports = pod(&spec, kind, &[], (compose, &mut service), walk)?;
        return Ok(Workload { kind, labels: object.labels.clone(), ports, service, at: spec });
    }
    let table = if object.kind == Kind::Deployment { &keys::DEPLOYMENT } else { &keys::STATEFUL };
    let (mut selector, mut template, mut own) = (None, None, Vec::new());
    for (key, at) in spec.fields_or(table, &mut walk.notes, "")? {
        match key {
            "replicas" => service.replicas = deploy::replicas(&at)?,
            "selector" => selector = Some(at),
            "template" => template = Some(at),
            "strategy" => {
                for (key, at) in at.fields_or(&keys::STRATEGY, &mut walk.notes, "")? {
                    if key == "type" {
                        at.one_of(&[("RollingUpdate", ()), ("Recreate", ())])?;
                    }
                }
            }
            _ => own = templates(&at, object.name, compose, walk)?,
        }
    }
    let template = template.ok_or_else(|| spec.broken("it has a template", None))?;
    let (mut labels, mut inner) = (BTreeMap::new(), None);
    for (key, at) in template.fields_or(&keys::TEMPLATE, &mut walk.notes, "")? {
        match key {
            "spec" => inner = Some(at),
            _ => {
                for (key, at) in at.fields_or(&keys::METADATA, &mut walk.notes, "")? {
                    if key == "labels" {
                        labels = pairs(&at)?;
                    }
                }
            }
        }
    }
    chosen(selector.as_ref(), &spec, &labels, walk)?;
    let inner = inner.ok_or_else(|| template.broken("it has a spec", None))?;
    let ports = pod(&inner, kind, &own, (compose, &mut service), walk)?;
    Ok(Workload { kind, labels, ports, service, at: inner })
}

/// Refuses a workload that does not choose its own pods.
fn chosen(
    selector: Option<&At<'_>>,
    spec: &At<'_>,
    labels: &BTreeMap<&str, &str>,
    walk: &mut Walk<'_>,
) -> Result<(), Broken> {
    let selector = selector.ok_or_else(|| spec.broken("it has a selector", None))?;
    let fields = selector.fields_or(&keys::SELECTOR, &mut walk.notes, "")?;
    let wanted = fields.first().map(|(_, at)| pairs(at)).transpose()?.unwrap_or_default();
    if wanted.is_empty() {
        return Err(selector.broken("matchLabels with at least one label", None));
    }
    match wanted.iter().find(|(name, value)| labels.get(*name) != Some(value)) {
        Some((name, value)) => {
            let rule = "its template has the labels it chooses: say it there, too";
            Err(Broken { found: format!("{name}: {value}"), ..selector.broken(rule, None) })
        }
        None => Ok(()),
    }
}

/// The volumes of a StatefulSet's own, by the names of their templates.
fn templates(
    at: &At<'_>,
    set: &str,
    compose: &mut Compose,
    walk: &mut Walk<'_>,
) -> Result<Vec<(String, String)>, Broken> {
    let mut all = Vec::new();
    for item in at.items()? {
        let (mut name, mut volume) = (None, None);
        for (key, at) in item.fields_or(&keys::OBJECT, &mut walk.notes, "")? {
            match key {
                "metadata" => {
                    for (key, at) in at.fields_or(&keys::METADATA, &mut walk.notes, "")? {
                        if key == "name" {
                            name = Some(at.said()?);
                        }
                    }
                }
                "spec" => volume = Some(claimed(&at, &mut walk.notes)?),
                _ => {}
            }
        }
        let (Some(name), Some(volume)) = (name, volume) else {
            return Err(item.broken("a template of a claim has metadata.name and a spec", None));
        };
        let whole = format!("{name}-{set}");
        if !is_name(&whole) || compose.volumes.insert(whole.clone(), volume).is_some() {
            return Err(item.broken(format!("{whole} is the volume's name: 1 to 63 letters, and of it alone"), None));
        }
        all.push((name.to_owned(), whole));
    }
    Ok(all)
}

/// A pod's own keys, and its container.
fn pod<'a>(
    spec: &At<'a>,
    kind: &str,
    own: &[(String, String)],
    (compose, service): (&mut Compose, &mut Service),
    walk: &mut Walk<'_>,
) -> Result<Ports<'a>, Broken> {
    let (mut containers, mut kept, mut user) = (None, None, User::default());
    service.restart.when = Restart::Always;
    service.stop_ms = Some(STOP_SECS * 1000);
    for (key, at) in spec.fields_or(&keys::POD, &mut walk.notes, "")? {
        match key {
            "containers" => containers = Some(at),
            "volumes" => kept = Some(at),
            "restartPolicy" => {
                let policies =
                    [("Always", Restart::Always), ("OnFailure", Restart::Failure(None)), ("Never", Restart::Never)];
                service.restart.when = at.one_of(&policies)?;
                if kind != "Pod" && service.restart.when != Restart::Always {
                    return Err(at.broken(format!("a {kind}'s pods begin again always"), Some("\"Always\"".into())));
                }
            }
            "terminationGracePeriodSeconds" => service.stop_ms = Some(at.number(0..=STOP_SECS_MAX)? * 1000),
            _ => {
                for (key, at) in at.fields_or(&keys::POD_SECURITY, &mut walk.notes, "")? {
                    user.take(key, &at, &mut walk.notes)?;
                }
            }
        }
    }
    let containers = containers.ok_or_else(|| spec.broken("a pod has a container", None))?;
    let items = containers.items()?;
    let [only] = items.as_slice() else {
        let rule = "a pod is one container: make each other a Deployment of its own, reached by a Service";
        return Err(items.get(1).unwrap_or(&containers).broken(rule, None));
    };
    let kept = volumes(kept.as_ref(), own, compose, &mut walk.notes)?;
    container(only, user, &kept, (compose, service), walk)
}
