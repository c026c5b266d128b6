//! Whole manifests: what they become, what is refused where, and that they are as a compose file would be.

use super::{read as read_all, *};
use crate::{
    app::{Draft, Runs},
    compose::{Given, Health, Restart, Service, Source},
    image::Config,
    stack::Stack,
};
use hodei_types::transport::NodeKey;

fn read(text: &str) -> Result<Manifests, Broken> {
    read_all(&[("app.yaml".into(), text.into())])
}

/// A pod whose container has these lines, the first on line 7.
fn pod(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  containers:\n  - image: nginx:1.27\n{lines}"
    )
}

/// What becomes of one with these lines; a ConfigMap and a Secret are beside it.
fn service(lines: &str) -> Result<Service, Broken> {
    let data = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {A: one, b.txt: \"two\\n\"}\n---\napiVersion: \
                v1\nkind: Secret\nmetadata: {name: s}\ndata: {K: aGlkZGVu, raw: //4=}\nstringData: {P: $(A)}\n";
    Ok(read(&format!("{}{data}", pod(lines)))?.compose.services.remove(0))
}

/// A Deployment by its name, with more of its pod's spec behind.
fn deployment(name: &str, container: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{image: x, {container}}}]}}\n"
    )
}

fn front(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn a_container_is_read() {
    let web = service(
        "command: [run, $(B)]\nargs: [\"$$(B)\", $(NONE)]\nworkingDir: /srv\nenvFrom:\n- {prefix: X_, configMapRef: {name: \
         c}}\n- {configMapRef: {name: none, optional: true}}\nenv:\n- {name: B, value: \"$(X_A)-1\"}\n- {name: EMPTY}\n- {name: K, \
         valueFrom: {secretKeyRef: {name: s, key: K}}}\n- {name: P, valueFrom: {secretKeyRef: {name: s, key: P}}}\n- {name: GONE, \
         valueFrom: {configMapKeyRef: {name: c, key: none, optional: true}}}\nresources: {requests: {cpu: 100m, memory: 64Mi}, \
         limits: {cpu: 0.5, ephemeral-storage: 1G}}\nlivenessProbe: {exec: {command: [ok]}, periodSeconds: 5, \
         initialDelaySeconds: 7}\nsecurityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}",
    )
    .unwrap();
    assert_eq!((web.entrypoint, web.command), (words(&["run", "one-1"]), words(&["$(B)", "$(NONE)"])));
    let variables: Vec<_> = web.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected =
        [("B", "one-1"), ("EMPTY", ""), ("K", "hidden"), ("P", "$(A)"), ("X_A", "one"), ("X_b.txt", "two\n")];
    assert_eq!(variables, expected);
    assert_eq!((web.cpu_milli, web.memory_bytes), (Some(500), Some(64 << 20)));
    assert_eq!(web.hodei.terms.disk.as_deref(), Some("954MiB"));
    let Some(Health::Asked(probe)) = web.health else { panic!("{:?}", web.health) };
    assert_eq!((probe.test, probe.interval_ms, probe.timeout_ms), (words(&["ok"]), 5000, 1000));
    assert_eq!((probe.retries, probe.start_period_ms), (3, 7000));
    assert_eq!((web.user.as_deref(), web.is_read_only, web.stop_ms), (Some("1000"), true, Some(30_000)));
    assert_eq!((web.restart.when, web.working_dir.as_deref(), web.replicas), (Restart::Always, Some("/srv"), 1));
}

#[test]
fn a_container_says_one_thing_of_its_user_and_its_pod_the_other() {
    let text = pod("securityContext: {runAsGroup: 7, runAsNonRoot: true}\nname: a");
    let text = format!(
        "{text}  securityContext: {{runAsUser: 5, runAsGroup: 6}}\n  restartPolicy: OnFailure\n  \
                        terminationGracePeriodSeconds: 9\n"
    );
    let web = read(&text).unwrap().compose.services.remove(0);
    assert_eq!((web.user.as_deref(), web.stop_ms, web.restart.when), (Some("5:7"), Some(9000), Restart::Failure(None)));
}

#[test]
fn files_memory_and_claims_are_mounted() {
    let text = pod(
        "volumeMounts:\n- {name: m, mountPath: /tmp}\n- {name: d, mountPath: /data}\n- {name: c, mountPath: /etc/app/}\n- {name: k, \
         mountPath: /key, subPath: k}",
    );
    let text = format!(
        "{text}  volumes:\n  - {{name: m, emptyDir: {{}}}}\n  - {{name: d, persistentVolumeClaim: {{claimName: data}}}}\n  - {{name: c, \
         configMap: {{name: c, defaultMode: 0400}}}}\n  - {{name: k, secret: {{secretName: s, items: [{{key: K, path: k, mode: \
         256}}]}}}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec: {{accessModes: \
         [ReadWriteOnce], resources: {{requests: {{storage: 2Gi}}}}}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: \
         c}}\ndata: {{a: x}}\nbinaryData: {{b: aGk=}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{K: aGk=}}\n"
    );
    let compose = read(&text).unwrap().compose;
    let web = &compose.services[0];
    let mounts: Vec<_> = web.mounts.iter().map(|mount| (&mount.source, mount.target.as_str())).collect();
    assert_eq!(mounts, [(&Source::Scratch(None), "/tmp"), (&Source::Volume("data".into()), "/data")]);
    assert_eq!(compose.volumes["data"].size, Some(2 << 30));
    let configs: Vec<_> = web.configs.iter().map(|grant| (grant.target.as_str(), grant.mode)).collect();
    assert_eq!(configs, [("/etc/app/a", 0o400), ("/etc/app/b", 0o400)]);
    assert_eq!((web.secrets[0].target.as_str(), web.secrets[0].mode), ("/key", 0o400));
    let stack = Stack::of(&compose, "shop", &Draft::default(), &mut |_| Ok(Vec::new())).unwrap();
    let Runs::Container(contained) = &stack.members[0].spec.runs else { panic!("a component") };
    assert!(contained.files.iter().any(|file| file.path == "/etc/app/b" && file.bytes == b"hi"));
}

/// A web server behind an Ingress, which reaches a database by its Service's name.
const SHOP: &str = "# the shop
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop, labels: {tier: front}}
  spec:
    replicas: 2
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web, tier: front}}
      spec:
        containers:
        - name: web
          image: example.org/web:1
          ports: [{name: http, containerPort: 8080}]
          env:
          - {name: DB_PORT, value: \"5432\"}
          - {name: DB_URL, value: \"postgres://db:$(DB_PORT)/shop\"}
          envFrom: [{configMapRef: {name: settings}}]
          resources: {limits: {cpu: 500m, memory: 256Mi}}
          readinessProbe: {httpGet: {path: /, port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  rules:
  - host: shop.example.org
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {MODE: live}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgres, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: postgres}}
  template:
    metadata: {labels: {app: postgres}}
    spec:
      containers: [{name: postgres, image: \"postgres:17\", livenessProbe: {exec: {command: [pg_isready]}}}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: postgres}, ports: [{port: 5432}]}
";

/// The same as a compose file.
const SAME: &str = "name: shop
services:
  postgres:
    image: postgres:17
    restart: always
    expose: [5432]
    stop_grace_period: 30s
    healthcheck: {test: [CMD, pg_isready], interval: 10s, timeout: 1s, retries: 3}
    networks: {default: {aliases: [db]}}
  web:
    image: example.org/web:1
    restart: always
    scale: 2
    environment: {DB_PORT: 5432, DB_URL: \"postgres://db:5432/shop\", MODE: live}
    ports: [8080]
    expose: [8080]
    cpus: 0.5
    mem_limit: 256m
    stop_grace_period: 30s
";

#[test]
fn manifests_become_what_a_compose_file_would() {
    let manifests = read(SHOP).unwrap();
    let given = Given { text: SAME, ..Given::default() };
    let compose = crate::compose::read(&given, &mut |_| Ok(None)).unwrap();
    let specs = |compose: &Compose| {
        let name = compose.name.clone().unwrap();
        let mut stack = Stack::of(compose, &name, &Draft::default(), &mut |_| Ok(Vec::new())).unwrap();
        let image = Config { ports: Vec::new(), health: None, has_command: true, stop_secs: None };
        stack.connect(&[&image, &image], |app| NodeKey([app.len() as u8; 32])).unwrap();
        stack.members.into_iter().map(|member| member.spec).collect::<Vec<_>>()
    };
    let (ours, same) = (specs(&manifests.compose), specs(&compose));
    assert_eq!(ours, same);
    assert_eq!(ours.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["shop-postgres", "shop-web"]);
    let Runs::Container(web) = &ours[1].runs else { panic!("a component") };
    assert_eq!(web.port, Some(8080));
    assert_eq!(web.reaches.iter().map(|to| to.name.as_str()).collect::<Vec<_>>(), ["db", "postgres"]);
    // What is done otherwise is told with its line.
    let told = |line: usize, words: &str| {
        assert!(
            manifests.compose.notes.iter().any(|note| note.line == line && note.words.contains(words)),
            "{line} {words}: {:#?}",
            manifests.compose.notes
        );
    };
    told(23, "only commands are asked");
    told(28, "others reach it at 8080");
    told(35, "PROJECT-WORKLOAD.localhost");
    told(47, "replicas have no names of their own");
}

#[test]
fn what_a_container_may_not_is_refused_with_its_line() {
    for (lines, words) in [
        ("imag: x", "\"image\""),
        ("x-mine: 1", "no such key"),
        ("securityContext: {privileged: true}", "no stranger"),
        ("securityContext: {capabilities: {add: [NET_ADMIN]}}", "no more are given"),
        ("securityContext: {runAsGroup: 3}", "runAsUser"),
        ("securityContext: {runAsUser: 0, runAsNonRoot: true}", "another user"),
        ("securityContext: {seccompProfile: {type: Unconfined}}", "RuntimeDefault"),
        ("lifecycle: {preStop: {exec: {command: [x]}}}", "stop signal"),
        ("ports: [{containerPort: 53, protocol: UDP}]", "TCP"),
        ("ports: [{containerPort: 80, hostPort: 80}]", "LoadBalancer"),
        ("ports: [{containerPort: 0}]", "1 to 65535"),
        ("ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]", "before"),
        ("env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: s, key: K}}}]", "not both"),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "say the value"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]", "the key"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {key: K}}}]", "the name"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: raw}}}]", "no other bytes"),
        ("env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: B}}}]", "a key of c"),
        ("env: [{name: A, valueFrom: {configMapKeyRef: {name: d, key: B}}}]", "\"c\""),
        ("env: [{name: \"A=B\", value: x}]", "without ="),
        ("envFrom: [{secretRef: {name: s}}]", "raw of s"),
        ("resources: {limits: {memory: 128m}}", "\"128Mi\""),
        ("resources: {limits: {cpu: much}}", "500m"),
        ("resources: {limits: {nvidia.com/gpu: 1}}", "devices"),
        ("livenessProbe: {periodSeconds: 3}", "one of exec"),
        ("volumeMounts: [{name: v, mountPath: /v}]", "a volume of the pod"),
        ("workingDir: srv", "begins with /"),
    ] {
        let error = service(lines).unwrap_err();
        assert_eq!(error.line, 7, "{lines}: {error}");
        assert!(error.to_string().contains(words), "{lines}: {error}");
    }
}

#[test]
fn what_a_pod_may_not_is_refused_with_its_line() {
    for (lines, words) in [
        ("hostNetwork: true", "no network of its host"),
        ("initContainers: [{image: x}]", "not yet"),
        ("nodeSelector: {disk: ssd}", "--region"),
        ("volumes: [{name: h, hostPath: {path: /}}]", "no file of a host"),
        ("volumes: [{name: h, persistentVolumeClaim: {claimName: none}}]", "PersistentVolumeClaim"),
        ("volumes: [{name: h, nfs: {server: x}}]", "only what every host has"),
        ("volumes: [{name: h, emptyDir: {}, secret: {secretName: s}}]", "one kind"),
        ("restartPolicy: Sometimes", "one of Always"),
    ] {
        let error = read(&format!("{}  {lines}\n", pod("name: a"))).unwrap_err();
        assert_eq!(error.line, 8, "{lines}: {error}");
        assert!(error.to_string().contains(words), "{lines}: {error}");
    }
    let two = read(&format!("{}  - image: other\n", pod("name: a"))).unwrap_err();
    assert!(two.line == 8 && two.rule.contains("one container"), "{two}");
    let cache =
        format!("{}  volumes: [{{name: c, emptyDir: }}]\n", pod("volumeMounts: [{name: c, mountPath: /cache}]"));
    let error = read(&cache).unwrap_err();
    assert!(error.line == 7 && error.rule.contains("/dev/shm"), "{error}");
}

#[test]
fn objects_that_nothing_runs_are_refused_with_what_to_do() {
    for (kind, words) in [
        ("v1, kind: DaemonSet", "Deployment with replicas"),
        ("batch/v1, kind: CronJob", "not yet"),
        ("v1, kind: ServiceAccount", "no server of a cluster"),
        ("v1, kind: Kustomization", "kubectl kustomize"),
        ("v1, kind: Pood", "\"Pod\""),
        ("v1, kind: Deployment", "apps/v1"),
        ("v1, kind: List", "one of ConfigMap"),
    ] {
        let text = format!("{}---\n{{apiVersion: {kind}, metadata: {{name: x}}}}\n", pod("name: a"));
        let text = if kind.ends_with("List") {
            text.replace("{apiVersion", "{apiVersion: v1, kind: List, items: [{apiVersion").replace("x}}", "x}}]}")
        } else {
            text
        };
        let error = read(&text).unwrap_err();
        assert_eq!(error.line, 9, "{kind}: {error}");
        assert!(error.to_string().contains(words), "{kind}: {error}");
    }
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {K: \"not base64!\"}\n";
    let error = read(&format!("{}{secret}", pod("name: a"))).unwrap_err();
    assert!(error.line == 12 && !error.to_string().contains("not base64!"), "{error}");
    for (second, words) in [
        (pod("name: a"), "remove one"),
        (pod("name: a").replace("name: web,", "name: ops, namespace: b,"), "one namespace"),
        (deployment("web", "name: a"), "an app is called so"),
    ] {
        let first = pod("name: a").replace("name: web,", "name: web, namespace: a,");
        let error = read(&format!("{first}---\n{}", second.trim_start_matches("---\n"))).unwrap_err();
        assert!((9..=12).contains(&error.line) && error.to_string().contains(words), "{words}: {error}");
    }
    assert!(read("").is_err() && read("---\n---\n").is_err());
}

#[test]
fn a_service_chooses_one_workload_and_its_ports() {
    let web = deployment("web", "ports: [{name: http, containerPort: 80}]");
    let both = format!("{web}{}", deployment("db", "name: db"));
    for (spec, words) in [
        ("{selector: {app: none}, ports: [{port: 80}]}", "chooses none"),
        ("{selector: {}, ports: [{port: 80}]}", "chooses none"),
        ("{ports: [{port: 80}]}", "by a selector"),
        ("{selector: {app: web}}", "has ports"),
        ("{selector: {app: web}, ports: [{port: 80, targetPort: 0}]}", "1 to 65535"),
        ("{selector: {app: web}, ports: [{port: 80, targetPort: htp}]}", "\"http\""),
        ("{selector: {app: web}, ports: [{port: 8080, targetPort: 80}]}", "not at 8080"),
        ("{selector: {app: web}, ports: [{port: 80, protocol: UDP}]}", "TCP"),
        ("{selector: {app: web}, ports: [{port: 80}, {port: 80}]}", "another number"),
        ("{type: ExternalName, externalName: a.b}", "nothing outside"),
        ("{type: LoadBalancer, selector: {app: web}, ports: [{port: 80}, {port: 81}]}", "ClusterIP"),
        ("{type: NodePort, selector: {app: db}, ports: [{port: 5432}]}", "PostgreSQL"),
        ("{type: Open, selector: {app: db}, ports: [{port: 1}]}", "NodePort"),
    ] {
        let error = read(&format!("{both}{}", front("front", spec))).unwrap_err();
        assert_eq!(error.line, 23, "{spec}: {error}");
        assert!(error.to_string().contains(words), "{spec}: {error}");
    }
    let taken = read(&format!("{both}{}", front("db", "{selector: {app: web}, ports: [{port: 80}]}"))).unwrap_err();
    assert!(taken.rule.contains("Deployment/db is called so"), "{taken}");
    // Where nobody else is there nobody asks for the other port.
    let alone = front("front", "{selector: {app: web}, ports: [{port: 8080, targetPort: http}]}");
    let compose = read(&format!("{web}{alone}")).unwrap().compose;
    assert_eq!((&compose.services[0].expose[..], compose.services[0].ports.len()), (&[80][..], 0));
    assert_eq!(compose.services[0].networks[0].aliases, ["front"]);
}

#[test]
fn an_ingress_publishes_whole_apps() {
    let web =
        format!("{}{}", deployment("web", "name: a"), front("web", "{selector: {app: web}, ports: [{port: 5432}]}"));
    let ingress = |spec: &str| {
        format!("{web}---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\nspec: {spec}\n")
    };
    for (spec, words) in [
        ("{rules: []}", "has a backend"),
        ("{defaultBackend: {service: {name: wep, port: {number: 5432}}}}", "\"web\""),
        ("{defaultBackend: {service: {name: web, port: {number: 80}}}}", "5432"),
        ("{defaultBackend: {service: {name: web}}}", "service.port"),
        (
            "{rules: [{http: {paths: [{path: /api, backend: {service: {name: web, port: {number: 5432}}}}]}}]}",
            "all of its paths",
        ),
        ("{rules: [{http: {paths: [{path: /, pathType: Exact}]}}]}", "one of Prefix"),
    ] {
        let error = read(&ingress(spec)).unwrap_err();
        assert_eq!(error.line, 19, "{spec}: {error}");
        assert!(error.to_string().contains(words), "{spec}: {error}");
    }
    let compose = read(&ingress("{defaultBackend: {service: {name: web, port: {number: 5432}}}}")).unwrap().compose;
    assert_eq!(compose.services[0].ports[0].target, 5432);
}

#[test]
fn names_with_dots_are_told() {
    let web = deployment("web", "env: [{name: DB, value: \"http://db.shop.svc.cluster.local:1/\"}]");
    let text =
        format!("{web}{}{}", deployment("db", "name: db"), front("db", "{selector: {app: db}, ports: [{port: 1}]}"));
    let noted = read(&text).unwrap().compose.notes;
    assert!(noted.iter().any(|note| note.line == 9 && note.words.contains("say db")), "{noted:?}");
}

#[test]
fn lines_of_several_files_are_told_with_their_file_and_in_words_of_manifests() {
    let files = [
        ("a.yaml".to_owned(), deployment("web", "name: a")),
        ("b.yaml".to_owned(), deployment("db", "name: a, tty: true")),
    ];
    let read = read_all(&files).unwrap();
    let noted: Vec<_> = read.compose.notes.iter().map(|note| read.places.note(note)).collect();
    assert!(noted.iter().any(|(file, line, _)| file.as_deref() == Some("b.yaml") && *line == 9), "{noted:?}");
    let broken = read_all(&[files[0].clone(), ("b.yaml".into(), "a: [1\n".into())]).unwrap_err();
    assert_eq!((broken.file.as_deref(), broken.line <= 2), (Some("b.yaml"), true), "{broken}");
    let small = pod("resources: {limits: {cpu: 1m}}");
    let read = self::read(&small).unwrap();
    let error = Stack::of(&read.compose, "shop", &Draft::default(), &mut |_| Ok(Vec::new())).unwrap_err();
    let error = read.places.broken(error);
    assert_eq!(
        (error.file.as_deref(), error.line, error.key.as_str()),
        (None, 7, "Pod/web.resources.limits.cpu"),
        "{error}"
    );
}

#[test]
fn manifests_are_known_by_their_first_document() {
    for (text, is_meant) in [
        ("\u{feff}# mine\n---\napiVersion: v1\nkind: Pod\n", true),
        ("{\"apiVersion\": \"v1\", \"kind\": \"List\"}", true),
        ("apiVersion: v1\nkind: Pod\nspec: [\n", true),
        ("services:\n  web: {image: x}\n", false),
        ("apiVersion: v2\nname: chart\n", false),
        ("services: {}\n---\napiVersion: v1\nkind: Pod\n", false),
        ("", false),
    ] {
        assert_eq!(super::is_meant(text), is_meant, "{text:?}");
    }
}

#[test]
fn no_manifest_is_more_than_it_may_be() {
    let many = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n".repeat(DOCUMENTS_MAX + 1);
    assert!(read(&many).unwrap_err().to_string().contains("documents"));
    let item = "{apiVersion: v1, kind: Namespace, metadata: {name: n}}, ".repeat(OBJECTS_MAX + 1);
    let list = format!("{{apiVersion: v1, kind: List, items: [{}]}}", item.trim_end_matches(", "));
    assert!(read(&list).unwrap_err().to_string().contains("objects"));
    // Each variable twice as long as the one before.
    let doubled = |at: usize| format!("{{name: A{}, value: $(A{at})$(A{at})}}", at + 1);
    let env: Vec<String> = (0..40).map(doubled).collect();
    let error = read(&pod(&format!("env: [{{name: A0, value: xxxxxxxx}}, {}]", env.join(", ")))).unwrap_err();
    assert!(error.to_string().contains("more text than is read"), "{error}");
    let workloads: String = (0..=SERVICES_MAX).map(|at| deployment(&format!("w{at}"), "name: a")).collect();
    assert!(read(&workloads).unwrap_err().to_string().contains("workloads"));
    let files: Vec<_> = (0..=FILES_MAX).map(|at| (format!("{at}.yaml"), String::new())).collect();
    assert!(read_all(&files).unwrap_err().to_string().contains("files"));
}
