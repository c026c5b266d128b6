//! Plan, price, order, and wait until it is ready.

use super::{apps, image};
use crate::{
    args::Deploy,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    session::{Session, sdk_fault},
    status::short,
    time::minute,
};
use alloy_primitives::U256;
use hodei_sdk::app::{Draft, FILE_BYTES_MAX, Lines, Payload, Plan, Runs, Spec, Step, Wrong, cpus, size, span};
use hodei_types::app::COMPONENT_BYTES_MAX;
use serde_json::json;
use std::{
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

/// Text of a component is some times as long as its binary.
const TEXT_BYTES_MAX: u64 = 4 * COMPONENT_BYTES_MAX;
/// From one line about replicas that start to the next.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What is to be deployed, checked as far as that needs nobody.
pub(crate) struct Read {
    spec: Spec,
    lines: Lines,
    source: Source,
}

enum Source {
    Component(Vec<u8>),
    Image(image::Source),
}

/// Reads the component, or where the image is, and the file that names it.
pub(crate) fn read(args: &Deploy) -> Result<Read> {
    if args.stack.project.is_some() || !args.stack.profiles.is_empty() {
        let help = "name that file, or the folder it is in; an app's own name is --name";
        return Err(Fault::new(&fault::APP_SPEC, "--project and --profile are of a compose file", help));
    }
    let mut flags = args.draft();
    flags.env = image::env(&args.container)?;
    let (draft, lines, wrongs, folder) = if has_ending(&args.file, "toml") {
        let text = String::from_utf8(limited(&args.file, FILE_BYTES_MAX as u64, &fault::COMPONENT)?)
            .map_err(|_| Fault::new(&fault::SETTINGS, "it is not UTF-8", "write it anew").at(args.file.display()))?;
        let (file, mut lines, wrongs) = Draft::parse_all(&text).map_err(|error| told(error.into(), &args.file))?;
        let draft = flags.clone().or(file);
        // A flag is on no line.
        lines.retain(|key, _| !flags.says(key));
        (draft, lines, wrongs, args.file.parent().unwrap_or(Path::new("")))
    } else {
        let what = Some(args.file.to_string_lossy().into_owned());
        let draft = match image::is_meant(&args.file, &args.container) {
            true => Draft { image: what, ..flags },
            false => Draft { component: what, ..flags },
        };
        (draft, Lines::new(), Vec::new(), Path::new(""))
    };
    let spec = draft.check_all(&lines, wrongs).map_err(|wrongs| all_told(&wrongs, &args.file))?;
    let source = match &spec.runs {
        Runs::Component(component) => Source::Component(wasm(&folder.join(component))?),
        Runs::Container(contained) => Source::Image(image::Source::of(&contained.image, folder, &args.container)?),
    };
    Ok(Read { spec, lines, source })
}

pub(super) fn told(fault: hodei_sdk::Fault, file: &Path) -> Fault {
    sdk_fault(fault).at(file.display())
}

/// The first of what is wrong, and all of it beside that.
pub(super) fn all_told(wrongs: &[Wrong], file: &Path) -> Fault {
    let code = match wrongs.first() {
        Some(Wrong::Unread(..)) => &fault::SETTINGS,
        _ => &fault::APP_SPEC,
    };
    let told = |wrong: &Wrong| json!({ "text": wrong.to_string(), "line": wrong.line(), "rule": wrong.rule(), "nearest": wrong.nearest() });
    let first = wrongs.first().map(ToString::to_string).unwrap_or_default();
    let help = "correct it; `hodei deploy --help` and docs/deploy.md list the rules";
    let mut fault = Fault::new(code, first, help).at(file.display());
    fault.all = wrongs.iter().map(told).collect();
    fault
}

pub(super) fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// The bytes of a file that is no longer than that.
pub(super) fn limited(path: &Path, most: u64, code: &'static fault::Code) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|error| Fault::io(path, "reading it", &error))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| Fault::io(path, "reading it", &error))?;
    if bytes.len() as u64 > most {
        return Err(Fault::new(code, "it is too long", "name another file, or make it smaller")
            .between(format!("at most {most} bytes"), "more")
            .at(path.display()));
    }
    Ok(bytes)
}

/// A component's binary; text is compiled.
pub(super) fn wasm(path: &Path) -> Result<Vec<u8>> {
    if !has_ending(path, "wat") {
        return limited(path, COMPONENT_BYTES_MAX, &fault::COMPONENT);
    }
    let text = limited(path, TEXT_BYTES_MAX, &fault::COMPONENT)?;
    let compiled = wat::parse_bytes(&text).map_err(|error| {
        Fault::new(&fault::COMPONENT, error, "correct the text; the message names line and column").at(path.display())
    })?;
    Ok(compiled.into_owned())
}

/// `hodei deploy`
pub(crate) async fn deploy(args: &Deploy, read: Read, session: &Session, out: Out) -> Result<()> {
    let Read { spec, lines, source } = read;
    let apps = apps(session).await?;
    let file = |fault| told(fault, &args.file);
    let image = match &source {
        Source::Component(_) => None,
        Source::Image(source) => Some(source.find(apps.blobs(), out).await.map_err(file)?),
    };
    let payload = match (&source, &image) {
        (_, Some(image)) => Payload::Image(image),
        (Source::Component(wasm), None) => Payload::Component(wasm),
        (Source::Image(_), None) => return Err(Fault::new(&fault::INTERNAL, "no image was found", "report it")),
    };
    let manifest = apps.manifest(&spec, &payload).map_err(file)?;
    let plan = apps.plan(&spec, &lines).await.map_err(file)?;
    let each = &plan.terms.each;
    out.say(format!(
        "{}: {} replicas of {} CPUs and {} of memory, for {}",
        spec.name,
        plan.terms.replicas,
        cpus(each.cpuMilli),
        size(each.memoryBytes),
        span(plan.terms.secs)
    ));
    if let Some(image) = &image {
        let layers = image.layers.len();
        let digest = hex::encode(image.digest);
        out.say(format!("{}: sha256:{digest}, {} in {layers} layers", image.reference, bytes(image.bytes())));
    }
    tell_plan(&plan, out);
    super::volume::tell_loss(&spec, out);
    let workload = hex::encode(manifest.workload());
    if args.plan.dry_run {
        let mut value = plan_of(&plan);
        value["schema"] = json!("hodei.deploy.plan/1");
        value["name"] = json!(spec.name);
        value["workload"] = json!(workload);
        value["image"] = json!(image.as_ref().map(image::shown));
        out.result("", &value);
        return Ok(());
    }
    out.confirm(&format!("Put {} in escrow and deploy it?", money::show(plan.escrow())), args.plan.yes)?;
    if let (Source::Image(source), Some(image)) = (&source, &image) {
        source.pull(image, apps.blobs(), out).await.map_err(file)?;
    }
    let (hour, is_on_call) = (plan.hour(), plan.is_on_call());
    let of_call = plan.call(1);
    let mut tell = teller(out);
    let deployed = apps.deploy(&spec, payload, plan, &mut tell).await.map_err(file)?;
    let ms = deployed.took.as_millis() as u64;
    let text = match deployed.waits_until_ms {
        Some(until_ms) => format!(
            "{} waits for an offer until {}, as order {}; {} in escrow",
            spec.name,
            minute(until_ms),
            deployed.order,
            money::show(deployed.deposit)
        ),
        None if is_on_call => format!(
            "{} is ready after {}.{} s and sleeps until it is asked, {} replicas; {} a call of 1 ms, {} in escrow",
            spec.name,
            ms / 1000,
            ms % 1000 / 100,
            deployed.replicas.len(),
            money::exact(of_call),
            money::show(deployed.deposit)
        ),
        None => format!(
            "{} is ready after {}.{} s, {} replicas; {} an hour, {} in escrow",
            spec.name,
            ms / 1000,
            ms % 1000 / 100,
            deployed.replicas.len(),
            money::show(hour),
            money::show(deployed.deposit)
        ),
    };
    let replicas = deployed.replicas.iter().map(|(lease, node)| json!({ "lease": lease, "node": node.to_string() }));
    out.result(
        text,
        &json!({
            "schema": "hodei.deploy/1", "name": spec.name, "workload": workload, "order": deployed.order,
            "replicas": replicas.collect::<Vec<_>>(), "hour_wei": hour.to_string(),
            "escrow_wei": deployed.deposit.to_string(), "ready_ms": ms, "cold_ms": deployed.cold_ms,
            "on_call": is_on_call, "call_wei": is_on_call.then(|| of_call.to_string()),
            "waits_until_ms": deployed.waits_until_ms, "image": image.as_ref().map(image::shown),
        }),
    );
    out.next(format!("hodei app serve, then http://{}.localhost:8080", spec.name));
    Ok(())
}

/// Where replicas would go, what they cost, and how much stands on one.
pub(crate) fn tell_plan(plan: &Plan, out: Out) {
    // An order asks for a level of all, or of none.
    let has_level = plan.places.iter().all(|place| place.promised.is_some());
    let rows: Vec<_> = plan
        .places
        .iter()
        .map(|place| {
            let mut row = vec![
                short(&place.node.to_string()),
                short(&place.operator.to_string()),
                place.region.to_owned(),
                place.country.clone(),
                place.network.clone(),
                money::show(U256::from(place.rate) * U256::from(3600)),
            ];
            if let Some(promised) = place.promised.filter(|_| has_level) {
                row.extend([promised.words(), money::show(U256::from(promised.pays))]);
            }
            row
        })
        .collect();
    if rows.is_empty() {
        out.say("no offer now: the order waits");
    } else {
        let head = ["HOST", "OPERATOR", "REGION", "COUNTRY", "NETWORK", "AN HOUR", "PROMISES", "A BREACH PAYS"];
        out.say(table(if has_level { &head[..] } else { &head[..6] }, &rows));
    }
    let all = plan.places.len();
    for one in &plan.stands {
        out.say(format!("{} of {all} stand on one {}: {}", one.replicas, one.of, short(&one.name)));
    }
    if plan.is_on_call() {
        out.say(format!(
            "{} a call of 1 ms, {} of 100 ms, {} for a million of 1 ms; {} for keeping it 30 days; {} go in escrow, what is \
             not used comes back",
            money::exact(plan.call(1)),
            money::exact(plan.call(100)),
            money::show(plan.call(1) * U256::from(1_000_000)),
            money::show(plan.hour() * U256::from(24 * 30)),
            money::show(plan.deposit),
        ));
        return;
    }
    out.say(format!(
        "{} an hour; {} for {} go in escrow, what is not used comes back",
        money::show(plan.hour()),
        money::show(plan.deposit),
        span(plan.terms.secs)
    ));
    if let Some(spares) = &plan.spares {
        let on: Vec<_> = spares.places.iter().map(|place| short(&place.node.to_string())).collect();
        out.say(format!(
            "{} spare copies, on {}: {} an hour; {} more go in escrow",
            on.len(),
            on.join(", "),
            money::show(spares.hour()),
            money::show(spares.deposit)
        ));
    }
}

/// A plan for programs.
pub(crate) fn plan_of(plan: &Plan) -> serde_json::Value {
    let place = |place: &hodei_sdk::app::Place| {
        json!({
            "node": place.node.to_string(), "operator": place.operator.to_string(), "region": place.region,
            "country": place.country, "network": place.network, "zone": place.zone, "rate_wei_s": place.rate.to_string(),
            "level": place.promised.map(|promised| json!({
                "availability_bp": promised.level.availabilityBp, "start_secs": promised.level.startSecs,
                "restore_secs": promised.level.restoreSecs, "pay_bp": promised.level.payBp,
                "pays_wei": promised.pays.to_string(),
            })),
        })
    };
    let stands = |one: &hodei_sdk::app::Stands| json!({ "of": one.of, "name": one.name, "replicas": one.replicas });
    json!({
        "replicas": plan.terms.replicas, "availability_min_bp": plan.terms.availabilityMinBp, "secs": plan.terms.secs,
        "hour_wei": plan.hour().to_string(), "spares": plan.spares.as_deref().map(plan_of),
        "escrow_wei": plan.deposit.to_string(), "price_max_wei": plan.terms.priceMax.to_string(),
        "places": plan.places.iter().map(place).collect::<Vec<_>>(),
        "stands": plan.stands.iter().map(stands).collect::<Vec<_>>(),
        "on_call": plan.is_on_call(), "call_wei": plan.is_on_call().then(|| plan.call(1).to_string()),
        "call_100ms_wei": plan.is_on_call().then(|| plan.call(100).to_string()),
        "keep_month_wei": plan.is_on_call().then(|| (plan.hour() * U256::from(24 * 30)).to_string()),
    })
}

/// Tells what happens on the way: each change at once, and that it goes on now and then.
pub(super) fn teller(out: Out) -> impl FnMut(Step) + Send {
    let mut last: Option<(Instant, String)> = None;
    move |step| match step {
        Step::Ordered { order } => out.say(format!("order {order} is final")),
        Step::Giving { lease, bytes: sent, of } => {
            out.say(format!("the host of lease {lease} has {} of {}", bytes(sent), bytes(of)));
        }
        Step::Relapsed { words } => out.say(format!("not well yet: {words}")),
        Step::Switched { release, drain } => {
            let secs = drain.as_secs();
            out.say(format!("requests go to release {release}; what was asked of the one before has {secs} s to end"));
        }
        Step::Told(told) => out.say(told.to_string()),
        Step::Starting { ready, wanted, states } => {
            let text = format!("{ready} of {wanted} ready; {}", states.join(", "));
            let is_due = last.as_ref().is_none_or(|(at, said)| *said != text || at.elapsed() > TELL_EVERY);
            if is_due {
                out.say(&text);
                last = Some((Instant::now(), text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_component_that_can_be_deployed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello.wat");
        let wasm = wasm(&path).unwrap();
        assert_eq!(&wasm[..8], b"\0asm\x0d\0\x01\0");
        let names = |name: &[u8]| wasm.windows(name.len()).any(|window| window == name);
        assert!(names(b"wasi:http/incoming-handler"));
    }

    #[test]
    fn text_that_is_none_is_told_with_its_place() {
        let folder = std::env::temp_dir().join(format!("hodei-deploy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("bad.wat");
        std::fs::write(&path, "(component\n  (nonsense))").unwrap();
        let fault = wasm(&path).unwrap_err();
        assert_eq!(fault.code.id, "HD3053");
        assert!(fault.message.contains(":2:"), "{}", fault.message);
        assert_eq!(limited(&path, 3, &fault::COMPONENT).unwrap_err().code.id, "HD3053");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn all_that_is_wrong_is_in_the_fault_with_line_rule_and_nearest() {
        let text = "component = \"a.wasm\"\nreplicas = 65\ncountry = \"ESP\"\n";
        let (draft, lines, wrongs) = Draft::parse_all(text).unwrap();
        let fault = all_told(&draft.check_all(&lines, wrongs).unwrap_err(), Path::new("app.toml"));
        assert_eq!(fault.code.id, "HD3051");
        let error = &fault.json()["error"];
        assert_eq!((error["all"].as_array().unwrap().len(), &error["all"][1]["line"]), (2, &json!(3)), "{error}");
        assert_eq!((&error["all"][0]["nearest"], &error["all"][0]["rule"]), (&json!("64"), &json!("1 to 64")));
        let shown = fault.to_string();
        assert!(shown.contains("line 2: replicas") && shown.contains("and: line 3: country"), "{shown}");
    }
}
