//! List every key of manifests that is read, and what becomes of it.
//!
//! Honoured keys do what Kubernetes says of them, within what is told. Noted keys change nothing here, and are told to who
//! deploys. Refused keys ask for what a stranger's machine does not give. docs/kubernetes.md is compared with this list.

mod pod;

pub(super) use super::super::keys::{Key, Standing, Table};
pub(super) use pod::*;

const fn yes(name: &'static str) -> Key {
    Key { name, standing: Standing::Honoured }
}

const fn note(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Noted(why) }
}

const fn told(name: &'static str, why: &'static str, harmless: &'static [&'static str]) -> Key {
    Key { name, standing: Standing::Told(why, harmless) }
}

const fn no(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Refused(why, &[]) }
}

const fn no_but(name: &'static str, why: &'static str, harmless: &'static [&'static str]) -> Key {
    Key { name, standing: Standing::Refused(why, harmless) }
}

const SERVER: &str = "it is a cluster's own record";
const UPDATED: &str = "all of a new release runs beside the old one, and takes over once it is well";
const KEPT: &str = "the last five releases are kept";
const DOOR: &str = "the door is hodei app serve, on your machine";
const NETS: &str = "workloads reach each other over encrypted links, by name";
const DISK: &str = "a volume is a disk of its host";

pub(super) static OBJECT: Table = Table {
    title: "Every object",
    keys: &[yes("apiVersion"), yes("kind"), yes("metadata"), yes("spec"), note("status", SERVER)],
};

pub(super) static LIST: Table =
    Table { title: "List", keys: &[yes("apiVersion"), yes("kind"), yes("items"), note("metadata", SERVER)] };

pub(super) static METADATA: Table = Table {
    title: "metadata",
    keys: &[
        yes("name"),
        yes("namespace"),
        yes("labels"),
        note("annotations", "nothing reads annotations here"),
        note("creationTimestamp", SERVER),
        note("deletionGracePeriodSeconds", SERVER),
        note("deletionTimestamp", SERVER),
        note("finalizers", SERVER),
        note("generation", SERVER),
        note("managedFields", SERVER),
        note("ownerReferences", SERVER),
        note("resourceVersion", SERVER),
        note("selfLink", SERVER),
        note("uid", SERVER),
        no("generateName", "an app has the same name each time: say name"),
    ],
};

pub(super) static DEPLOYMENT: Table = Table {
    title: "Deployment.spec",
    keys: &[
        yes("replicas"),
        yes("selector"),
        yes("template"),
        yes("strategy"),
        note("minReadySeconds", "a new release takes over once it was ready for 10 s"),
        note("progressDeadlineSeconds", "hodei app update --deadline says it"),
        note("revisionHistoryLimit", KEPT),
        no_but("paused", "what is deployed runs: remove it", &["false"]),
    ],
};

pub(super) static STRATEGY: Table =
    Table { title: "Deployment.spec.strategy", keys: &[told("type", UPDATED, &[]), note("rollingUpdate", UPDATED)] };

pub(super) static STATEFUL: Table = Table {
    title: "StatefulSet.spec",
    keys: &[
        yes("replicas"),
        yes("selector"),
        yes("template"),
        yes("volumeClaimTemplates"),
        note("minReadySeconds", "a new release takes over once it was ready for 10 s"),
        note("ordinals", "replicas have no numbers"),
        note("persistentVolumeClaimRetentionPolicy", DISK),
        note("podManagementPolicy", "all replicas begin at once"),
        note("revisionHistoryLimit", KEPT),
        note("serviceName", "replicas have no names of their own: all are reached by their Service's"),
        note("updateStrategy", UPDATED),
    ],
};

pub(super) static SELECTOR: Table =
    Table { title: "spec.selector", keys: &[yes("matchLabels"), no("matchExpressions", "say it as matchLabels")] };

pub(super) static TEMPLATE: Table = Table { title: "spec.template", keys: &[yes("metadata"), yes("spec")] };

pub(super) static DATA: Table = Table {
    title: "ConfigMap",
    keys: &[
        yes("apiVersion"),
        yes("kind"),
        yes("metadata"),
        yes("data"),
        yes("binaryData"),
        note("immutable", "what was deployed is not changed by what the files say later"),
    ],
};

pub(super) static SECRET: Table = Table {
    title: "Secret",
    keys: &[
        yes("apiVersion"),
        yes("kind"),
        yes("metadata"),
        yes("data"),
        yes("stringData"),
        note("type", "nothing reads it here"),
        note("immutable", "what was deployed is not changed by what the files say later"),
    ],
};

pub(super) static SERVICE: Table = Table {
    title: "Service.spec",
    keys: &[
        yes("type"),
        yes("selector"),
        yes("ports"),
        told("clusterIP", NETS, &["None"]),
        note("allocateLoadBalancerNodePorts", DOOR),
        note("clusterIPs", NETS),
        note("externalTrafficPolicy", DOOR),
        note("healthCheckNodePort", DOOR),
        note("internalTrafficPolicy", NETS),
        note("ipFamilies", NETS),
        note("ipFamilyPolicy", NETS),
        note("loadBalancerClass", DOOR),
        note("loadBalancerIP", DOOR),
        note("publishNotReadyAddresses", "replicas are reached once they hear"),
        note("sessionAffinityConfig", "requests go to all replicas"),
        note("trafficDistribution", NETS),
        no("externalIPs", "no address of a host is given: remove it"),
        no("externalName", "nothing outside is reached: remove it"),
        no("loadBalancerSourceRanges", "the door does not tell who asks apart: remove it, and guard the door"),
        no_but("sessionAffinity", "requests go to all replicas: keep sessions in a workload that all reach", &["None"]),
    ],
};

pub(super) static SERVICE_PORT: Table = Table {
    title: "Service.spec.ports",
    keys: &[yes("name"), yes("port"), yes("targetPort"), yes("protocol"), yes("appProtocol"), note("nodePort", DOOR)],
};

pub(super) static INGRESS: Table = Table {
    title: "Ingress.spec",
    keys: &[
        yes("defaultBackend"),
        yes("rules"),
        note("ingressClassName", DOOR),
        note("tls", "the door speaks plain HTTP at localhost"),
    ],
};

pub(super) static RULE: Table = Table {
    title: "Ingress.spec.rules",
    keys: &[told("host", "the app answers at its own name, PROJECT-WORKLOAD.localhost", &[]), yes("http")],
};

pub(super) static HTTP: Table = Table { title: "Ingress.spec.rules.http", keys: &[yes("paths")] };

pub(super) static PATH: Table =
    Table { title: "Ingress.spec.rules.http.paths", keys: &[yes("path"), yes("pathType"), yes("backend")] };

pub(super) static BACKEND: Table = Table {
    title: "Ingress backend",
    keys: &[yes("service"), no("resource", "a Service of these files answers: name one")],
};

pub(super) static BACKEND_SERVICE: Table =
    Table { title: "Ingress backend.service", keys: &[yes("name"), yes("port")] };

pub(super) static BACKEND_PORT: Table =
    Table { title: "Ingress backend.service.port", keys: &[yes("name"), yes("number")] };

pub(super) static CLAIMED: Table = Table {
    title: "PersistentVolumeClaim.spec",
    keys: &[
        yes("resources"),
        note("accessModes", "a volume is its one workload's"),
        note("storageClassName", DISK),
        note("volumeAttributesClassName", DISK),
        no_but("volumeMode", "a volume is a folder: remove it", &["Filesystem"]),
        no("dataSource", "a volume begins empty: remove it"),
        no("dataSourceRef", "a volume begins empty: remove it"),
        no("selector", "only what these files make can be used: remove it"),
        no("volumeName", "only what these files make can be used: remove it"),
    ],
};

pub(super) static CLAIMED_SIZE: Table = Table {
    title: "PersistentVolumeClaim.spec.resources",
    keys: &[yes("requests"), note("limits", "a volume has what it requests")],
};

pub(super) static STORAGE: Table =
    Table { title: "PersistentVolumeClaim.spec.resources.requests", keys: &[yes("storage")] };

pub(super) static NAMESPACE: Table = Table { title: "Namespace.spec", keys: &[note("finalizers", SERVER)] };

#[cfg(test)]
mod tests;
