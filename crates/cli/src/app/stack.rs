//! Deploy the services of a compose file or of manifests, and end them together.

use super::{
    apps, beside,
    deploy::{limited, plan_of, teller},
    image,
    manifests::{self, Told},
    meant::Meant,
    volume,
};
use crate::{
    args::{AppDelete, Deploy},
    fault::{self, Fault, Result},
    money,
    out::{Out, table},
    session::{Session, sdk_fault},
    status::short,
};
use alloy_primitives::{B256, U256};
use hodei_sdk::{
    app::{Apps, Draft, Gate, Payload, Plan, Project, Step, Upgrade},
    compose::{self, Compose, FILE_BYTES_MAX, Given},
    image::Image,
    link::Link,
    stack::Stack,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Hours of what is told as a month.
const MONTH_HOURS: u64 = 24 * 30;

/// A compose file or manifests, checked as far as that needs nobody.
pub(crate) struct Read {
    told: Told,
    stack: Stack,
    /// Where the image of each service is.
    sources: Vec<image::Source>,
}

/// One service, priced.
struct Ready {
    image: Image,
    mark: B256,
    task: Task,
}

/// What is to be done for a service.
enum Task {
    /// It stands already, as the file says.
    Stands,
    New(Box<Plan>),
    /// It stands, and is another now.
    Update(Box<Upgrade>),
}

impl Ready {
    fn plan(&self) -> Option<&Plan> {
        match &self.task {
            Task::Stands => None,
            Task::New(plan) => Some(plan),
            Task::Update(upgrade) => Some(&upgrade.plan),
        }
    }
}

/// Reads what is meant, and refuses what nothing does.
pub(crate) fn read(meant: Meant, args: &Deploy) -> Result<Read> {
    let (what, terms) = (args.file.as_path(), terms(args)?);
    let (told, folder, compose) = match meant {
        Meant::Compose(file) => {
            let folder = folder_of(&file).to_owned();
            let told = Told { file, places: None };
            let compose = of_compose(&told, &folder, args)?;
            (told, folder, compose)
        }
        Meant::Manifests(files) => {
            if !args.stack.profiles.is_empty() {
                let help = "leave it out, or deploy only the files that are meant";
                return Err(Fault::new(&fault::APP_SPEC, "--profile is of a compose file, not of manifests", help));
            }
            let folder = if what.is_dir() { what } else { folder_of(what) };
            let (told, compose) = manifests::read(what, &files)?;
            (told, folder.to_owned(), compose)
        }
    };
    let project = match (&args.stack.project, &compose.name) {
        (Some(said), _) | (None, Some(said)) => said.clone(),
        (None, None) => {
            let path = folder.canonicalize().map_err(|error| Fault::io(&folder, "finding its name", &error))?;
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
    };
    let mut files = |path: &str| beside::beside(&folder, path);
    let stack = Stack::of(&compose, &project, &terms, &mut files).map_err(|error| told.broken(error))?;
    let source = |service: &compose::Service| match (&service.build, &service.image) {
        (Some(build), _) => image::Source::of(&build.context, &folder, &args.container),
        (None, image) => image::Source::named(image.as_deref().unwrap_or_default(), &args.container),
    };
    let sources = stack.members.iter().map(|member| source(&member.service)).collect::<Result<_>>()?;
    Ok(Read { told, stack, sources })
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn of_compose(told: &Told, folder: &Path, args: &Deploy) -> Result<Compose> {
    let text = text(&told.file)?;
    // What is not UTF-8 is no value of a YAML file.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment: BTreeMap<String, String> = environment.collect();
    let given = Given { text: &text, environment: Some(&environment), profiles: &args.stack.profiles, services: &[] };
    let mut beside = |path: &str| match std::fs::metadata(folder.join(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
        Ok(_) => self::text(&folder.join(path)).map(Some).map_err(|fault| fault.message),
    };
    compose::read(&given, &mut beside).map_err(|error| told.broken(error))
}

pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(limited(path, FILE_BYTES_MAX as u64, &fault::SETTINGS)?)
        .map_err(|_| Fault::new(&fault::SETTINGS, "it is not UTF-8", "write it anew").at(path.display()))
}

/// What flags say for all services; what is of one app alone is refused.
fn terms(args: &Deploy) -> Result<Draft> {
    let said = args.draft();
    let terms = Draft {
        regions: said.regions.clone(),
        country: said.country.clone(),
        tier: said.tier.clone(),
        renewable: said.renewable,
        price_max: said.price_max.clone(),
        per_host: said.per_host,
        per_operator: said.per_operator,
        per_network: said.per_network,
        class: said.class.clone(),
        patience: said.patience.clone(),
        term: said.term.clone(),
        budget: said.budget.clone(),
        collateral_min: said.collateral_min.clone(),
        within: said.within,
        availability: said.availability.clone(),
        ..Draft::default()
    };
    let of = &args.container;
    if said != terms || !of.env.is_empty() || of.env_file.is_some() || of.from.is_some() {
        let help = "say it in the file, at the service it is meant for";
        return Err(Fault::new(&fault::APP_SPEC, "a flag is of one app, and a file of several is deployed", help));
    }
    Ok(terms)
}

/// `hodei deploy` of a compose file or manifests
pub(crate) async fn deploy(args: &Deploy, read: Read, session: &Session, out: Out) -> Result<()> {
    let Read { told, mut stack, sources } = read;
    let apps = apps(session).await?;
    let ready = plan(&told, &mut stack, &sources, &apps, out).await?;
    let notes: Vec<_> = stack.notes.iter().map(|note| told.note(note)).collect();
    for (file, line, words) in &notes {
        let file = file.as_ref().map(|file| format!("{file}, ")).unwrap_or_default();
        out.say(format!("{file}line {line}: {words}"));
    }
    let rows: Vec<_> = stack.members.iter().zip(&ready).map(|(member, ready)| row(member.app(), ready)).collect();
    out.say(table(&["APP", "REPLICAS", "REGIONS", "OPERATORS", "AN HOUR", "A MONTH", "ESCROW"], &rows));
    stack.members.iter().for_each(|member| volume::tell_loss(&member.spec, out));
    let plans = || ready.iter().filter_map(Ready::plan);
    let hour: U256 = plans().map(Plan::hour_of_all).sum();
    let deposit: U256 = plans().map(Plan::escrow).sum();
    out.say(format!(
        "{}: {} an hour, {} a month; {} go in escrow, what is not used comes back",
        stack.project,
        money::show(hour),
        money::show(hour * U256::from(MONTH_HOURS)),
        money::show(deposit)
    ));
    if args.plan.dry_run {
        let service = |(member, ready): (&hodei_sdk::stack::Member, &Ready)| {
            json!({
                "service": member.service.name, "name": member.app(), "image": image::shown(&ready.image),
                "plan": ready.plan().map(plan_of), "from": updated(ready),
            })
        };
        let note = |(file, line, words): &(Option<String>, usize, String)| match file {
            Some(file) => json!({ "file": file, "line": line, "words": words }),
            None => json!({ "line": line, "words": words }),
        };
        let notes = notes.iter().map(note);
        out.result(
            "",
            &json!({
                "schema": "hodei.stack.plan/1", "project": stack.project, "hour_wei": hour.to_string(),
                "escrow_wei": deposit.to_string(), "notes": notes.collect::<Vec<_>>(),
                "services": stack.members.iter().zip(&ready).map(service).collect::<Vec<_>>(),
            }),
        );
        return Ok(());
    }
    let count = plans().count();
    let updates = ready.iter().filter(|ready| updated(ready).is_some()).count();
    if count > 0 {
        apps.afford(deposit).await.map_err(sdk_fault)?;
        out.confirm(&format!("Put {} in escrow and deploy {count} apps?", money::show(deposit)), args.plan.yes)?;
    }
    for (source, ready) in sources.iter().zip(&ready).filter(|(_, ready)| ready.plan().is_some()) {
        source.pull(&ready.image, apps.blobs(), out).await.map_err(sdk_fault)?;
    }
    begin(&stack, ready, &apps, out).await?;
    let url = |app: &str| format!("http://{app}.localhost:8080");
    let answers = stack.members.iter().filter(|member| port(member) != 0);
    let urls: Vec<String> = answers.map(|member| url(member.app())).collect();
    let shown = |member: &hodei_sdk::stack::Member| {
        json!({
            "service": member.service.name, "name": member.app(), "url": (port(member) != 0).then(|| url(member.app())),
        })
    };
    let answers = if urls.is_empty() { String::new() } else { format!("; it answers at {}", urls.join(", ")) };
    out.result(
        format!("{} is ready, {} apps{answers}", stack.project, stack.members.len()),
        &json!({
            "schema": "hodei.stack/1", "project": stack.project, "deployed": count - updates, "updated": updates,
            "hour_wei": hour.to_string(),
            "escrow_wei": deposit.to_string(), "urls": urls,
            "services": stack.members.iter().map(shown).collect::<Vec<_>>(),
        }),
    );
    out.next("hodei app serve");
    Ok(())
}

/// Where a service answers HTTP, 0 for nowhere.
fn port(member: &hodei_sdk::stack::Member) -> u16 {
    match &member.spec.runs {
        hodei_sdk::app::Runs::Container(contained) => contained.port.unwrap_or_default(),
        hodei_sdk::app::Runs::Component(_) => 0,
    }
}

/// Finds the images, lets the services reach each other, and asks where each would go.
async fn plan(
    told: &Told,
    stack: &mut Stack,
    sources: &[image::Source],
    apps: &Apps<Link>,
    out: Out,
) -> Result<Vec<Ready>> {
    let of =
        |service: &str, fault: hodei_sdk::Fault| sdk_fault(fault).at(format!("{}: {service}", told.file.display()));
    let mut images = Vec::new();
    for (member, source) in stack.members.iter().zip(sources) {
        images.push(source.find(apps.blobs(), out).await.map_err(|fault| of(&member.service.name, fault))?);
    }
    let says: Vec<_> = images.iter().map(|image| &image.says).collect();
    stack.connect(&says, |app| apps.reached_as(app)).map_err(|error| told.broken(error))?;
    let standing = apps.project(&stack.project).map_err(sdk_fault)?.unwrap_or_default();
    let names = apps.names().map_err(sdk_fault)?;
    let mut ready = Vec::new();
    for (member, image) in stack.members.iter().zip(images) {
        let (app, service) = (member.app(), &member.service.name);
        let mark = apps.mark(&member.spec, &Payload::Image(&image)).map_err(|fault| of(service, fault))?;
        let stands = standing.get(app).filter(|_| names.iter().any(|name| name == app));
        let lines = &member.service.hodei.lines;
        let task = match stands {
            Some(as_deployed) if *as_deployed == mark => Ok(Task::Stands),
            Some(_) => {
                let payload = Payload::Image(&image);
                let planned = apps.plan_update(&member.spec, lines, &payload, None).await;
                planned.map(|upgrade| Task::Update(Box::new(upgrade)))
            }
            // A rule that is not kept is of no line here: all that have one were kept.
            None => apps.plan(&member.spec, lines).await.map(|plan| Task::New(Box::new(plan))),
        };
        let task = task.map_err(|fault| of(service, fault))?;
        ready.push(Ready { image, mark, task });
    }
    for app in standing.keys().filter(|app| stack.members.iter().all(|member| member.app() != app.as_str())) {
        out.say(format!("{app} is no longer of the file, and goes on: hodei app delete {app} ends it"));
    }
    Ok(ready)
}

/// Which release of a service is updated, if one is.
fn updated(ready: &Ready) -> Option<u32> {
    match &ready.task {
        Task::Update(upgrade) => Some(upgrade.from),
        Task::Stands | Task::New(_) => None,
    }
}

fn row(app: &str, ready: &Ready) -> Vec<String> {
    let Some(plan) = ready.plan() else {
        let mut row = vec![app.to_owned(), "stands".into()];
        row.resize(7, "-".into());
        return row;
    };
    let mut regions: Vec<String> = plan.places.iter().map(|place| place.region.to_owned()).collect();
    let mut operators: Vec<String> = plan.places.iter().map(|place| short(&place.operator.to_string())).collect();
    for names in [&mut regions, &mut operators] {
        names.sort();
        names.dedup();
    }
    vec![
        updated(ready).map_or_else(|| app.to_owned(), |from| format!("{app}, from release {from}")),
        plan.terms.replicas.to_string(),
        if regions.is_empty() { "waits for an offer".into() } else { regions.join(", ") },
        operators.join(", "),
        money::show(plan.hour_of_all()),
        money::show(plan.hour_of_all() * U256::from(MONTH_HOURS)),
        money::show(plan.escrow()),
    ]
}

/// Brings one after the other, each once those before it are ready; if one fails what was deployed anew ends again, and
/// what was updated stays so.
async fn begin(stack: &Stack, ready: Vec<Ready>, apps: &Apps<Link>, out: Out) -> Result<()> {
    let mut project = apps.project(&stack.project).map_err(sdk_fault)?.unwrap_or_default();
    let mut begun: Vec<&str> = Vec::new();
    let mut tell = teller(out);
    let mut moved: Vec<&str> = Vec::new();
    for (member, Ready { image, mark, task }) in stack.members.iter().zip(ready) {
        let app = member.app();
        if !matches!(task, Task::Stands) {
            out.say(format!("{app}: {}", image.reference));
        }
        let plan = match task {
            Task::Stands => continue,
            Task::New(plan) => *plan,
            Task::Update(upgrade) => {
                if let Err(fault) = renew(apps, *upgrade, &image, out, &mut tell).await {
                    let mut fault = sdk_fault(fault).at(app);
                    let left = end(apps, &stack.project, &mut project, &begun).await;
                    let left: Vec<&str> = left.iter().map(String::as_str).collect();
                    fault.help = helped(fault.help, &left, &moved);
                    return Err(fault);
                }
                // Noted last: what is cut short is done again.
                project.insert(app.to_owned(), mark);
                apps.keep_project(&stack.project, &project).map_err(sdk_fault)?;
                moved.push(app);
                continue;
            }
        };
        project.insert(app.to_owned(), mark);
        // Noted first: what is cut short is ended by the project's name.
        let noted = apps.keep_project(&stack.project, &project);
        let deployed = match noted {
            Ok(()) => apps.deploy(&member.spec, Payload::Image(&image), plan, &mut tell).await.map(drop),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = deployed {
            // What failed ended itself, if the ledger could be reached; one of that name that was there before is not ours.
            let is_ours = !matches!(fault, hodei_sdk::Fault::AppExists(_));
            let is_left = is_ours && apps.names().is_ok_and(|names| names.iter().any(|name| name == app));
            if !is_left {
                project.remove(app);
            }
            let mut fault = sdk_fault(fault).at(app);
            let mut left = end(apps, &stack.project, &mut project, &begun).await;
            left.extend(is_left.then(|| app.to_owned()));
            let left: Vec<&str> = left.iter().map(String::as_str).collect();
            fault.help = helped(fault.help, &left, &moved);
            return Err(fault);
        }
        begun.push(app);
    }
    Ok(())
}

/// Moves a service to what the file says now.
async fn renew(
    apps: &Apps<Link>,
    upgrade: Upgrade,
    image: &Image,
    out: Out,
    tell: &mut (dyn FnMut(Step) + Send),
) -> std::result::Result<(), hodei_sdk::Fault> {
    let payload = Some(Payload::Image(image));
    let updated = apps.update(upgrade, payload, &Gate::default(), std::future::pending(), tell).await?;
    if let Some(why) = updated.retired.left {
        out.say(format!("{why}: whoever keeps the apps ends what ran before"));
    }
    Ok(())
}

/// What is to be done about the rest of a project, where one of its services failed.
fn helped(help: String, left: &[&str], moved: &[&str]) -> String {
    let mut parts = vec![help];
    if !left.is_empty() {
        parts.push(format!("these could not be ended, and are by hodei app delete: {}", left.join(", ")));
    }
    if !moved.is_empty() {
        parts.push(format!("these run their new releases, and go back by hodei app rollback: {}", moved.join(", ")));
    }
    parts.join("; ")
}

/// Ends apps, the last first, and gives those that could not be.
async fn end(apps: &Apps<Link>, name: &str, project: &mut Project, begun: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for app in begun.iter().rev() {
        match apps.delete(app).await {
            Ok(_) | Err(hodei_sdk::Fault::NoApp(_)) => _ = project.remove(*app),
            Err(_) => left.push((*app).to_owned()),
        }
    }
    // What is noted and is not there is passed over later.
    let _ = apps.keep_project(name, project);
    left
}

/// `hodei app delete PROJECT`: ends all of its apps.
pub(super) async fn delete(args: &AppDelete, mut project: Project, apps: &Apps<Link>, out: Out) -> Result<()> {
    let (name, asked) = (args.name.app.as_str(), &args.plan);
    let names = apps.names().map_err(sdk_fault)?;
    project.retain(|app, _| names.contains(app));
    let all: Vec<String> = project.keys().cloned().collect();
    out.say(format!("{name}: {} apps end: {}", all.len(), all.join(", ")));
    if asked.dry_run {
        out.result("", &json!({ "schema": "hodei.stack.delete.plan/1", "project": name, "apps": all }));
        return Ok(());
    }
    out.confirm("End them?", asked.yes)?;
    let (mut leases, mut refunded) = (0, U256::ZERO);
    for app in &all {
        let deleted = volume::delete(app, args, apps, out).await.map_err(|fault| fault.at(app))?;
        leases += deleted.leases;
        refunded += deleted.refunded;
        project.remove(app);
        apps.keep_project(name, &project).map_err(sdk_fault)?;
    }
    apps.keep_project(name, &Project::new()).map_err(sdk_fault)?;
    let value: Value = json!({
        "schema": "hodei.stack.delete/1", "project": name, "apps": all, "leases": leases,
        "refunded_wei": refunded.to_string(),
    });
    out.result(format!("{name} is over: {leases} leases ended, {} came back", money::exact(refunded)), &value);
    out.next("hodei app list");
    Ok(())
}
