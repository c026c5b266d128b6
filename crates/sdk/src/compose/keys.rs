//! List every key that a compose file may have, and what becomes of it.
//!
//! Honoured keys do what docker says of them, within what is told. Noted keys change nothing here, and are told to who
//! deploys. Refused keys ask for what a stranger's machine does not give, or does not give yet. docs/compose.md is compared
//! with this list.

pub(super) enum Standing {
    Honoured,
    Noted(&'static str),
    /// Read, and not done by hosts so far; what is done instead, and the values that ask for nothing else.
    Told(&'static str, &'static [&'static str]),
    /// Read, and nothing that says it is deployed so far: what to do instead, and the values that ask for nothing.
    Later(&'static str, &'static [&'static str]),
    /// Why, and what to do; and the values with which it asks for nothing.
    Refused(&'static str, &'static [&'static str]),
}

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) standing: Standing,
}

/// The keys of one kind of mapping.
pub(super) struct Table {
    /// Where such mappings stand, as docs/compose.md heads them.
    pub(super) title: &'static str,
    pub(super) keys: &'static [Key],
}

const fn yes(name: &'static str) -> Key {
    Key { name, standing: Standing::Honoured }
}

const fn note(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Noted(why) }
}

const fn no(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Refused(why, &[]) }
}

const fn no_but(name: &'static str, why: &'static str, harmless: &'static [&'static str]) -> Key {
    Key { name, standing: Standing::Refused(why, harmless) }
}

const fn told(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Told(why, &["false"]) }
}

const fn later(name: &'static str, why: &'static str) -> Key {
    Key { name, standing: Standing::Later(why, &[]) }
}

const LABELS: &str = "nothing reads labels here";
const SHARE: &str = "a replica has what it is paid for, alone: nothing is weighed against others";
const ALONE: &str = "each container has its own: remove it";
const DEVICES: &str = "devices of a host are not given: remove it";
const DRIVER: &str = "only what every host has: remove it";
const EXTERNAL: &str = "only what this file makes can be used: declare it here, without external";
const CPUS: &str = "say it as cpus";
const BUILT: &str = "not yet: build the image by yourself, and say image";
const UPDATED: &str = "all of a new release runs beside the old one, and takes over once it is well";
const AGAIN: &str = "a container begins anew later each time, to a minute, however often";
const OWN: &str = "say it as the service's own key";
const COMPONENT: &str = "this is of components, which app.toml deploys: remove it";

pub(super) static FILE: Table = Table {
    title: "The file",
    keys: &[
        yes("name"),
        yes("services"),
        yes("volumes"),
        yes("networks"),
        yes("secrets"),
        yes("configs"),
        yes("x-hodei"),
        note("version", "it has no meaning to docker any more, either"),
        no("include", "one file is deployed: write its services into this one"),
        no("models", "hosts bring no models: run one in a service"),
    ],
};

pub(super) static SERVICE: Table = Table {
    title: "services.NAME",
    keys: &[
        yes("image"),
        yes("build"),
        yes("entrypoint"),
        yes("command"),
        yes("environment"),
        yes("env_file"),
        yes("working_dir"),
        yes("user"),
        told("hostname", "a container is called as its app, PROJECT-SERVICE"),
        yes("ports"),
        yes("expose"),
        yes("volumes"),
        yes("tmpfs"),
        yes("secrets"),
        yes("configs"),
        yes("networks"),
        yes("depends_on"),
        yes("links"),
        yes("healthcheck"),
        yes("restart"),
        yes("deploy"),
        yes("scale"),
        yes("cpus"),
        yes("mem_limit"),
        told("pids_limit", "processes are limited by the host"),
        yes("read_only"),
        told("init", "a host adds no process: let the image bring an init if it needs one"),
        later("stop_signal", "not yet: say it as STOPSIGNAL of the image"),
        yes("stop_grace_period"),
        later(
            "extra_hosts",
            "not yet: a container reaches the services of its networks, and nothing outside: remove it",
        ),
        yes("profiles"),
        yes("extends"),
        yes("platform"),
        yes("cap_add"),
        yes("security_opt"),
        yes("x-hodei"),
        note("annotations", LABELS),
        note("attach", "logs of all services can be read"),
        note("blkio_config", SHARE),
        note("cap_drop", "a container has few capabilities anyway, and keeps those"),
        note("container_name", "replicas are named after their service; others reach them by that name"),
        note("cpu_shares", SHARE),
        note("cpuset", SHARE),
        note("develop", "it is for docker compose watch"),
        note("dns", "the host's agent answers names"),
        note("dns_opt", "the host's agent answers names"),
        note("dns_search", "the host's agent answers names"),
        note("domainname", "services have names without a domain"),
        note("label_file", LABELS),
        note("labels", LABELS),
        note("logging", "a host keeps the last of what is written, and gives it to the owner"),
        note("mac_address", "containers have no wire of their own"),
        note("mem_reservation", SHARE),
        note("mem_swappiness", "nothing is swapped"),
        note("memswap_limit", "nothing is swapped"),
        note("oom_score_adj", SHARE),
        note("pull_policy", "what was deployed is what runs, by its hash"),
        note("pull_refresh_after", "what was deployed is what runs, by its hash"),
        note("shm_size", "/dev/shm has the size that hosts give it"),
        note("stdin_open", "nobody is attached; a shell is opened by exec"),
        note("storage_opt", "disk is said by x-hodei"),
        note("tty", "nobody is attached; a shell is opened by exec"),
        note("ulimits", "limits are the host's"),
        no_but("cgroup", ALONE, &["private"]),
        no("cgroup_parent", ALONE),
        no("cpu_count", CPUS),
        no("cpu_percent", CPUS),
        no("cpu_period", CPUS),
        no("cpu_quota", CPUS),
        no("cpu_rt_period", CPUS),
        no("cpu_rt_runtime", CPUS),
        no("credential_spec", "hosts are no Windows: remove it"),
        no("device_cgroup_rules", DEVICES),
        no("devices", DEVICES),
        no("external_links", EXTERNAL),
        no("gpus", DEVICES),
        no("group_add", "a process has the groups its image gives its user: say them there"),
        no_but("ipc", ALONE, &["private", "shareable"]),
        no_but("isolation", DRIVER, &["default"]),
        no_but("network_mode", "a container is on no network of its host: remove it", &["bridge", "default"]),
        no_but("oom_kill_disable", "who uses more memory than is paid for is ended: remove it", &["false"]),
        no("pid", ALONE),
        no("post_start", "say it in the entrypoint"),
        no("pre_stop", "let the process do it upon stop_signal"),
        no_but("privileged", "no stranger has power over a host: remove it", &["false"]),
        no("provider", "say an image that does it"),
        no_but("runtime", "a host's runtime is its own: remove it; components are deployed by app.toml", &["runc"]),
        no("models", "hosts bring no models: run one in a service"),
        no("sysctls", "the kernel is the host's: remove it"),
        no_but("use_api_socket", "there is no docker on a host: remove it", &["false"]),
        no("userns_mode", ALONE),
        no("uts", ALONE),
        no("volumes_from", "name the volume in both services"),
    ],
};

pub(super) static BUILD: Table = Table {
    title: "services.NAME.build",
    keys: &[
        yes("context"),
        later("dockerfile", BUILT),
        later("dockerfile_inline", BUILT),
        later("args", BUILT),
        later("target", BUILT),
        note("cache_from", "an image is built on your machine, with its cache"),
        note("cache_to", "an image is built on your machine, with its cache"),
        note("labels", LABELS),
        note("network", "an image is built on your machine, on its network"),
        note("no_cache", "an image is built on your machine, with its cache"),
        note("platforms", "an image is built for what hosts are"),
        note("provenance", LABELS),
        note("pull", "an image is built on your machine, with its cache"),
        note("sbom", LABELS),
        note("shm_size", "an image is built on your machine, within its limits"),
        note("tags", "an image is named by its hash"),
        note("ulimits", "an image is built on your machine, within its limits"),
        no("additional_contexts", "build the image by yourself, and say image"),
        no("entitlements", "build the image by yourself, and say image"),
        no("extra_hosts", "build the image by yourself, and say image"),
        no("isolation", "build the image by yourself, and say image"),
        no_but("privileged", "build the image by yourself, and say image", &["false"]),
        no("secrets", "build the image by yourself, and say image"),
        no("ssh", "build the image by yourself, and say image"),
    ],
};

pub(super) static EXTENDS: Table = Table {
    title: "services.NAME.extends",
    keys: &[yes("service"), no("file", "a service of this file can be extended: write the other one into it")],
};

pub(super) static ENV_FILE: Table =
    Table { title: "services.NAME.env_file", keys: &[yes("path"), yes("required"), yes("format")] };

pub(super) static PORT: Table = Table {
    title: "services.NAME.ports",
    keys: &[
        yes("target"),
        yes("published"),
        yes("host_ip"),
        yes("protocol"),
        yes("name"),
        yes("app_protocol"),
        note("mode", "requests go to all replicas"),
    ],
};

pub(super) static MOUNT: Table = Table {
    title: "services.NAME.volumes",
    keys: &[
        yes("type"),
        yes("source"),
        yes("target"),
        yes("read_only"),
        yes("tmpfs"),
        note("bind", "a folder of the project is copied to the host, read-only"),
        note("consistency", "it has no meaning to docker any more, either"),
        note("volume", "volumes begin with what the image has there"),
        no("image", "mounting images is not done: copy the files into this service's image"),
    ],
};

pub(super) static SCRATCH: Table = Table {
    title: "services.NAME.volumes.tmpfs",
    keys: &[told("size", "a host gives it up to half of the memory"), note("mode", "it is 1777")],
};

pub(super) static GRANT: Table = Table {
    title: "services.NAME.secrets and configs",
    keys: &[yes("source"), yes("target"), yes("uid"), yes("gid"), yes("mode")],
};

pub(super) static DEPENDS: Table = Table {
    title: "services.NAME.depends_on.NAME",
    keys: &[
        yes("condition"),
        yes("required"),
        note("restart", "a service goes on while one that it depends on begins anew"),
    ],
};

pub(super) static HEALTH: Table = Table {
    title: "services.NAME.healthcheck",
    keys: &[
        yes("test"),
        yes("interval"),
        yes("timeout"),
        yes("retries"),
        yes("start_period"),
        told("start_interval", "while it starts it is asked at once, then later each time, up to interval"),
        yes("disable"),
    ],
};

pub(super) static ATTACH: Table = Table {
    title: "services.NAME.networks.NAME",
    keys: &[
        yes("aliases"),
        note("driver_opts", "hosts carry what services say to each other"),
        note("gw_priority", "hosts carry what services say to each other"),
        note("interface_name", "hosts carry what services say to each other"),
        note("mac_address", "hosts carry what services say to each other"),
        note("priority", "hosts carry what services say to each other"),
        no("ipv4_address", "services reach each other by name: remove it"),
        no("ipv6_address", "services reach each other by name: remove it"),
        no("link_local_ips", "services reach each other by name: remove it"),
    ],
};

pub(super) static DEPLOY: Table = Table {
    title: "services.NAME.deploy",
    keys: &[
        yes("mode"),
        yes("replicas"),
        yes("resources"),
        told("update_config", UPDATED),
        yes("restart_policy"),
        note("endpoint_mode", "the door spreads requests over replicas"),
        note("labels", LABELS),
        note("rollback_config", "going back is done as an update is"),
        no("placement", "say where as x-hodei: regions, country, spread"),
    ],
};

pub(super) static RESOURCES: Table =
    Table { title: "services.NAME.deploy.resources", keys: &[yes("limits"), yes("reservations")] };

pub(super) static LIMITS: Table = Table {
    title: "services.NAME.deploy.resources.limits",
    keys: &[yes("cpus"), yes("memory"), told("pids", "processes are limited by the host"), no("devices", DEVICES)],
};

pub(super) static RESERVATIONS: Table = Table {
    title: "services.NAME.deploy.resources.reservations",
    keys: &[
        note("cpus", SHARE),
        note("memory", SHARE),
        note("pids", SHARE),
        no("devices", DEVICES),
        no("generic_resources", DEVICES),
    ],
};

pub(super) static UPDATE: Table = Table {
    title: "services.NAME.deploy.update_config",
    keys: &[
        told("order", UPDATED),
        told("parallelism", UPDATED),
        told("delay", UPDATED),
        told("failure_action", UPDATED),
        told("monitor", UPDATED),
        note("max_failure_ratio", "the first replica that fails counts"),
    ],
};

pub(super) static RESTART: Table = Table {
    title: "services.NAME.deploy.restart_policy",
    keys: &[yes("condition"), told("delay", AGAIN), told("max_attempts", AGAIN), told("window", AGAIN)],
};

pub(super) static VOLUME: Table = Table {
    title: "volumes.NAME",
    keys: &[
        yes("x-hodei"),
        note("labels", LABELS),
        note("name", "it is named by this file's name and its own"),
        no_but("driver", DRIVER, &["local", "default"]),
        no("driver_opts", "a volume is a disk of its host: say its size as x-hodei"),
        no_but("external", EXTERNAL, &["false"]),
    ],
};

pub(super) static VOLUME_TERMS: Table = Table { title: "volumes.NAME.x-hodei", keys: &[yes("size")] };

pub(super) static NETWORK: Table = Table {
    title: "networks.NAME",
    keys: &[
        yes("internal"),
        note("attachable", "only services of this file are on it"),
        note("driver_opts", "hosts carry what services say to each other"),
        note("enable_ipv4", "services reach each other by name"),
        note("enable_ipv6", "services reach each other by name"),
        note("ipam", "services reach each other by name"),
        note("labels", LABELS),
        note("name", "it is named by this file's name and its own"),
        no_but("driver", DRIVER, &["bridge", "overlay", "default"]),
        no_but("external", EXTERNAL, &["false"]),
    ],
};

pub(super) static SECRET: Table = Table {
    title: "secrets.NAME",
    keys: &[
        yes("file"),
        yes("environment"),
        note("labels", LABELS),
        note("name", "it is named by this file's name and its own"),
        no("driver", DRIVER),
        no("driver_opts", DRIVER),
        no_but("external", "say it by file or environment", &["false"]),
        no("template_driver", DRIVER),
    ],
};

pub(super) static CONFIG: Table = Table {
    title: "configs.NAME",
    keys: &[
        yes("file"),
        yes("environment"),
        yes("content"),
        note("labels", LABELS),
        note("name", "it is named by this file's name and its own"),
        no_but("external", "say it by file, environment or content", &["false"]),
        no("template_driver", DRIVER),
    ],
};

pub(super) static PLACE: Table = Table {
    title: "x-hodei",
    keys: &[
        yes("regions"),
        yes("country"),
        yes("price_max"),
        yes("per_host"),
        yes("per_operator"),
        yes("per_network"),
        yes("spread"),
        yes("class"),
        yes("patience"),
        yes("term"),
        yes("budget"),
        yes("collateral_min"),
        yes("within"),
        yes("availability"),
        yes("disk"),
        yes("volume"),
        yes("snapshot"),
        yes("bucket"),
        yes("bandwidth"),
        yes("transfer"),
        yes("tier"),
        yes("renewable"),
        no("spares", "not yet: hosts keep copies of components alone: say replicas: 2"),
        Key {
            name: "standby",
            standing: Standing::Later("not yet: another replica is placed when one is lost", &["cold"]),
        },
        yes("port"),
        no("name", "say it as the file's name"),
        no("component", COMPONENT),
        no("image", OWN),
        no("entrypoint", OWN),
        no("command", OWN),
        no("env", "say it as environment"),
        no("workdir", "say it as working_dir"),
        no("user", OWN),
        no("health", "say it as healthcheck"),
        no("restart", OWN),
        no("stop", "say it as stop_grace_period"),
        no("read_only", OWN),
        no("volumes", OWN),
        no("replicas", "say it as scale or deploy.replicas"),
        no("cpu", "say it as cpus"),
        no("memory", "say it as mem_limit"),
        no("request_fuel", COMPONENT),
        no("request_memory", COMPONENT),
        no("request_deadline", COMPONENT),
        no("request_body", COMPONENT),
        no("calls", COMPONENT),
    ],
};

#[cfg(test)]
mod tests;
