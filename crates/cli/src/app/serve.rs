//! Keep apps running, and open the door to them.

use super::apps;
use crate::{
    args::{AppServe, Process},
    budget,
    fault::{self, Fault, Result},
    out::Out,
    serve::stopped,
    session::Session,
};
use hodei_gateway::app;
use hodei_sdk::{
    app::{Apps, Routes, Told},
    link::Link,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

/// Looks at all apps until it is stopped; from a budget as soon as one is set.
fn upkeep(session: &Session, apps: Apps<Link>, routes: Routes, out: Out) -> [JoinHandle<()>; 2] {
    let (purse, wallet) = (session.purse.clone(), apps.wallet().clone());
    let follower = tokio::spawn(async move { budget::until_spent_from(&purse, &wallet).await });
    [tokio::spawn(apps.keep(routes, move |told| tell(&told, out))), follower]
}

fn tell(told: &Told, out: Out) {
    if !out.json {
        out.say(told.to_string());
        return;
    }
    let (what, app) = match told {
        Told::Given { app, .. } => ("given", app),
        Told::NotGiven { app, .. } => ("not_given", app),
        Told::Filled { app, .. } => ("filled", app),
        Told::NotFilled { app, .. } => ("not_filled", app),
        Told::NotStored { app, .. } => ("not_stored", app),
        Told::Ended { app, .. } => ("ended", app),
        Told::Over { app, .. } => ("over", app),
        Told::Ordered { app, .. } => ("ordered", app),
        Told::NotOrdered { app, .. } => ("not_ordered", app),
        Told::Tidied { app, .. } => ("tidied", app),
        Told::Spared { app, .. } => ("spared", app),
        Told::NotSpared { app, .. } => ("not_spared", app),
        Told::Blind { app, .. } => ("blind", app),
    };
    out.result("", &json!({ "schema": "hodei.app.told/1", "what": what, "app": app, "text": told.to_string() }));
}

/// `hodei app keep`
pub(crate) async fn keep(process: Process, session: &Session, out: Out) -> Result<()> {
    let stop = stopped(process.until_stdin_closes)?;
    let apps = apps(session).await?;
    let names = apps.names().map_err(crate::session::sdk_fault)?;
    let tasks = upkeep(session, apps.clone(), Routes::default(), out);
    out.result(format!("keeping {} apps", names.len()), &json!({ "schema": "hodei.app.keep.ready/1", "apps": names }));
    stop.await;
    tasks.iter().for_each(JoinHandle::abort);
    super::volume::close(&apps, out).await;
    Ok(())
}

/// `hodei app serve`
pub(crate) async fn serve(args: &AppServe, session: &Session, out: Out) -> Result<()> {
    if !args.listen.ip().is_loopback() {
        let help = "listen on 127.0.0.1, and let a server of yours pass requests on";
        return Err(Fault::new(&fault::SETTINGS, "apps are served on this machine alone", help).at(args.listen));
    }
    let stop = stopped(args.process.until_stdin_closes)?;
    let apps = apps(session).await?;
    let names = apps.names().map_err(crate::session::sdk_fault)?;
    let listener = TcpListener::bind(args.listen).await;
    let (address, listener) = listener
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map_err(|error| Fault::new(&fault::NODE, format!("{}: {error}", args.listen), "choose another address"))?;
    let (routes, link) = (Routes::default(), apps.link().clone());
    // A request before the first look is told to come again.
    routes.know(&names);
    let tasks = upkeep(session, apps.clone(), routes.clone(), out);
    let door = tokio::spawn(app::serve(listener, link, routes));
    let urls: Vec<String> = names.iter().map(|name| format!("http://{name}.localhost:{}", address.port())).collect();
    out.result(
        match urls.is_empty() {
            true => format!("apps answer at http://NAME.localhost:{}; none is deployed yet", address.port()),
            false => format!("apps answer: {}", urls.join(", ")),
        },
        &json!({ "schema": "hodei.app.ready/1", "endpoint": format!("http://{address}"), "apps": names, "urls": urls }),
    );
    stop.await;
    door.abort();
    tasks.iter().for_each(JoinHandle::abort);
    super::volume::close(&apps, out).await;
    Ok(())
}
