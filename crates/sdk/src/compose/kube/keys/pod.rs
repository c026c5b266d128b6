//! List the keys of pods, and of their containers and volumes.

use super::{Key, Table, no, no_but, note, told, yes};

const ALONE: &str = "each container has its own: remove it";
const CONFINED: &str = "what confines a container is the same for all: remove it";
const ONE: &str = "a pod is one container: make the other a Deployment of its own";
const PLACE: &str = "say where by hodei deploy --region, --country, --tier: remove it";
const SHARE: &str = "a replica has what it is paid for, alone";
const NODES: &str = "hosts are a market's offers, and carry no taints";
const NO_API: &str = "no server of a cluster is reached from a container";
const DEVICES: &str = "devices of a host are not given: remove it";
const DRIVER: &str = "only what every host has: remove it";
const NAMES: &str = "the host's agent answers names";
const ATTACHED: &str = "nobody is attached; hodei app exec opens a shell";
const ASKED: &str = "only commands are asked: it counts as ready when it hears at its published port, or runs";
const OWNED: &str = "no volume is given to a group";

const fn driver(name: &'static str) -> Key {
    no(name, DRIVER)
}

pub(in super::super) static POD: Table = Table {
    title: "Pod.spec",
    keys: &[
        yes("containers"),
        yes("volumes"),
        yes("restartPolicy"),
        yes("terminationGracePeriodSeconds"),
        yes("securityContext"),
        note("automountServiceAccountToken", NO_API),
        note("dnsConfig", NAMES),
        note("dnsPolicy", NAMES),
        note("enableServiceLinks", "no variables of Services are given: reach them by name"),
        note("hostname", "a container is called as its app, PROJECT-WORKLOAD"),
        note("hostUsers", "users of a container are never the host's"),
        note("imagePullSecrets", "images are taken with your own credentials"),
        note("overhead", SHARE),
        note("preemptionPolicy", SHARE),
        note("priority", SHARE),
        note("priorityClassName", SHARE),
        note("readinessGates", "nobody sets conditions"),
        note("schedulerName", "the market chooses hosts"),
        note("serviceAccount", NO_API),
        note("serviceAccountName", NO_API),
        note("setHostnameAsFQDN", NAMES),
        note("shareProcessNamespace", "a pod is one container"),
        note("subdomain", NAMES),
        note("tolerations", NODES),
        note(
            "topologySpreadConstraints",
            "replicas go to different hosts; --per-operator and --per-network spread them further",
        ),
        no("activeDeadlineSeconds", "say how long it is paid by --term"),
        no(
            "affinity",
            "replicas go to different hosts; say more by --region, --per-operator, --per-network: remove it",
        ),
        no("ephemeralContainers", ONE),
        no("hostAliases", "a container reaches the Services of these files, and nothing outside: remove it"),
        no_but("hostIPC", ALONE, &["false"]),
        no_but("hostNetwork", "a container is on no network of its host: remove it", &["false"]),
        no_but("hostPID", ALONE, &["false"]),
        no("initContainers", "not yet: nothing runs ahead of a container: let the image do it before it serves"),
        no("nodeName", PLACE),
        no("nodeSelector", PLACE),
        no("os", "hosts run linux: remove it"),
        no("resourceClaims", DEVICES),
        no("resources", "say it at the container"),
        no("runtimeClassName", "a host's runtime is its own: remove it"),
        no("schedulingGates", "nobody opens gates: remove it"),
    ],
};

pub(in super::super) static POD_SECURITY: Table = Table {
    title: "Pod.spec.securityContext",
    keys: &[
        yes("runAsUser"),
        yes("runAsGroup"),
        yes("runAsNonRoot"),
        yes("seccompProfile"),
        note("fsGroup", OWNED),
        note("fsGroupChangePolicy", OWNED),
        note("supplementalGroupsPolicy", OWNED),
        no("appArmorProfile", CONFINED),
        no("seLinuxChangePolicy", CONFINED),
        no("seLinuxOptions", CONFINED),
        no("supplementalGroups", "a process has the groups its image gives its user: say them there"),
        no("sysctls", "the kernel is the host's: remove it"),
        no("windowsOptions", "hosts run linux: remove it"),
    ],
};

pub(in super::super) static SECCOMP: Table =
    Table { title: "securityContext.seccompProfile", keys: &[yes("type"), no("localhostProfile", CONFINED)] };

pub(in super::super) static CONTAINER: Table = Table {
    title: "Pod.spec.containers",
    keys: &[
        yes("name"),
        yes("image"),
        yes("command"),
        yes("args"),
        yes("env"),
        yes("envFrom"),
        yes("ports"),
        yes("resources"),
        yes("livenessProbe"),
        yes("readinessProbe"),
        yes("startupProbe"),
        yes("securityContext"),
        yes("workingDir"),
        yes("volumeMounts"),
        note("imagePullPolicy", "what was deployed is what runs, by its hash"),
        note("resizePolicy", SHARE),
        note("stdin", ATTACHED),
        note("stdinOnce", ATTACHED),
        note("terminationMessagePath", "a host keeps the last of what is written, and gives it to the owner"),
        note("terminationMessagePolicy", "a host keeps the last of what is written, and gives it to the owner"),
        note("tty", ATTACHED),
        no("lifecycle", "let the process do it when it begins, and upon its stop signal"),
        no("restartPolicy", "say it at the pod"),
        no("restartPolicyRules", "say restartPolicy at the pod"),
        no("volumeDevices", DEVICES),
    ],
};

pub(in super::super) static SECURITY: Table = Table {
    title: "Pod.spec.containers.securityContext",
    keys: &[
        yes("runAsUser"),
        yes("runAsGroup"),
        yes("runAsNonRoot"),
        yes("readOnlyRootFilesystem"),
        yes("capabilities"),
        yes("seccompProfile"),
        told("allowPrivilegeEscalation", "no process gets new privileges", &["false"]),
        no("appArmorProfile", CONFINED),
        no_but("privileged", "no stranger has power over a host: remove it", &["false"]),
        no_but("procMount", CONFINED, &["Default"]),
        no("seLinuxOptions", CONFINED),
        no("windowsOptions", "hosts run linux: remove it"),
    ],
};

pub(in super::super) static CAPABILITIES: Table = Table {
    title: "Pod.spec.containers.securityContext.capabilities",
    keys: &[yes("add"), note("drop", "a container has few capabilities anyway, and keeps those")],
};

pub(in super::super) static ENV: Table =
    Table { title: "Pod.spec.containers.env", keys: &[yes("name"), yes("value"), yes("valueFrom")] };

pub(in super::super) static VALUE_FROM: Table = Table {
    title: "Pod.spec.containers.env.valueFrom",
    keys: &[
        yes("configMapKeyRef"),
        yes("secretKeyRef"),
        no("fieldRef", "a container is not told of its pod: say the value"),
        no("fileKeyRef", "say the value, or keep it in a ConfigMap"),
        no("resourceFieldRef", "a container is not told what it is paid for: say the value"),
    ],
};

pub(in super::super) static KEY_REF: Table =
    Table { title: "configMapKeyRef and secretKeyRef", keys: &[yes("name"), yes("key"), yes("optional")] };

pub(in super::super) static ENV_FROM: Table =
    Table { title: "Pod.spec.containers.envFrom", keys: &[yes("prefix"), yes("configMapRef"), yes("secretRef")] };

pub(in super::super) static REF: Table =
    Table { title: "configMapRef and secretRef", keys: &[yes("name"), yes("optional")] };

pub(in super::super) static PORT: Table = Table {
    title: "Pod.spec.containers.ports",
    keys: &[
        yes("name"),
        yes("containerPort"),
        yes("protocol"),
        no("hostIP", "a container is on no network of its host: remove it"),
        no("hostPort", "a container is on no network of its host: publish it by a Service of type LoadBalancer"),
    ],
};

pub(in super::super) static RESOURCES: Table =
    Table { title: "Pod.spec.containers.resources", keys: &[yes("limits"), yes("requests"), no("claims", DEVICES)] };

pub(in super::super) static AMOUNTS: Table = Table {
    title: "Pod.spec.containers.resources.limits and requests",
    keys: &[
        yes("cpu"),
        yes("memory"),
        yes("ephemeral-storage"),
        no("nvidia.com/gpu", DEVICES),
        no("amd.com/gpu", DEVICES),
    ],
};

pub(in super::super) static PROBE: Table = Table {
    title: "livenessProbe, readinessProbe and startupProbe",
    keys: &[
        yes("exec"),
        told("httpGet", ASKED, &[]),
        told("tcpSocket", ASKED, &[]),
        told("grpc", ASKED, &[]),
        yes("initialDelaySeconds"),
        yes("periodSeconds"),
        yes("timeoutSeconds"),
        yes("failureThreshold"),
        told("successThreshold", "one success is enough", &["1"]),
        note("terminationGracePeriodSeconds", "it is stopped as the pod says"),
    ],
};

pub(in super::super) static EXEC: Table = Table { title: "exec", keys: &[yes("command")] };

pub(in super::super) static MOUNT: Table = Table {
    title: "Pod.spec.containers.volumeMounts",
    keys: &[
        yes("name"),
        yes("mountPath"),
        yes("readOnly"),
        yes("subPath"),
        note("recursiveReadOnly", "nothing is mounted inside of a volume"),
        no_but("mountPropagation", ALONE, &["None"]),
        no("subPathExpr", "say it as subPath"),
    ],
};

pub(in super::super) static VOLUME: Table = Table {
    title: "Pod.spec.volumes",
    keys: &[
        yes("name"),
        yes("emptyDir"),
        yes("configMap"),
        yes("secret"),
        yes("persistentVolumeClaim"),
        driver("awsElasticBlockStore"),
        driver("azureDisk"),
        driver("azureFile"),
        driver("cephfs"),
        driver("cinder"),
        driver("csi"),
        no("downwardAPI", "a container is not told of its pod: remove it"),
        no("ephemeral", "name a PersistentVolumeClaim of these files"),
        driver("fc"),
        driver("flexVolume"),
        driver("flocker"),
        driver("gcePersistentDisk"),
        driver("gitRepo"),
        driver("glusterfs"),
        no("hostPath", "no file of a host is given: copy it into the image, or remove it"),
        no("image", "copy the files into the container's own image"),
        driver("iscsi"),
        driver("nfs"),
        driver("photonPersistentDisk"),
        driver("portworxVolume"),
        no("projected", "mount its parts each by itself"),
        driver("quobyte"),
        driver("rbd"),
        driver("scaleIO"),
        driver("storageos"),
        driver("vsphereVolume"),
    ],
};

pub(in super::super) static EMPTY: Table = Table {
    title: "Pod.spec.volumes.emptyDir",
    keys: &[
        told("medium", "it is memory", &["Memory"]),
        told("sizeLimit", "a host gives it up to half of the memory", &[]),
    ],
};

pub(in super::super) static FILES_OF: Table = Table {
    title: "Pod.spec.volumes.configMap and secret",
    keys: &[yes("name"), yes("secretName"), yes("items"), yes("defaultMode"), yes("optional")],
};

pub(in super::super) static ITEM: Table =
    Table { title: "Pod.spec.volumes.configMap.items", keys: &[yes("key"), yes("path"), yes("mode")] };

pub(in super::super) static CLAIM: Table =
    Table { title: "Pod.spec.volumes.persistentVolumeClaim", keys: &[yes("claimName"), yes("readOnly")] };
