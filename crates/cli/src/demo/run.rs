//! Run an app on three hosts of four, kill one of them, and show the bill.

use super::{
    Step, Tour,
    cloud::{Cloud, HOSTS},
    steps::{LOOK_EVERY, failed},
};
use crate::{
    app::apps,
    fault::{self, Fault, Result},
    money,
    session::{Session, chain_fault, sdk_fault},
    status::short,
};
use alloy_primitives::U256;
use hodei_gateway::app::serve;
use hodei_sdk::{
    app::{Apps, Draft, Lines, Routes, Shown},
    link::Link,
};
use hodei_types::{
    abi::{IMarket, MARKET},
    app::wire::State,
    call::ask,
    transport::NodeKey,
};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const NAME: &str = "hello";
const REPLICAS: usize = 3;
/// Answers every request with one line.
const HELLO: &[u8] = include_bytes!("../../../../examples/hello.wat");
/// Of an answer; longer than that line.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// An app is deployed, asked, loses a host, is placed again, and ends.
pub(super) async fn run(tour: &Tour, cloud: &mut Cloud, session: &Session) -> Result<()> {
    cloud.start_hosts().await?;
    loop {
        let offered = ask(&*session.chain, MARKET, &IMarket::countCall {}).await.map_err(chain_fault)?;
        if offered >= HOSTS as u64 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tour.say(&format!("{HOSTS} machines offer to run components, each of its own operator"));
    let apps = apps(session).await?;
    let deposit = deploy(tour, &apps).await?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (door, listener) = bound.map_err(|error| {
        Fault::new(&fault::NODE, format!("the door to apps: {error}"), "allow this user to listen on 127.0.0.1")
    })?;
    let routes = Routes::default();
    // They end with this step, however it ends.
    let mut tasks = JoinSet::new();
    tasks.spawn(apps.clone().keep(routes.clone(), |_| {}));
    tasks.spawn(serve(listener, apps.link().clone(), routes));
    let (lease, body) = loop {
        if let (200, lease, body) = get(door).await? {
            break (lease, body);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    tour.say(&format!("http://{NAME}.localhost:{} answers: {}", door.port(), body.trim()));

    let shown = apps.show(NAME).await.map_err(sdk_fault)?;
    let victim = shown.replicas.iter().find(|running| Some(running.lease.id) == lease);
    let victim =
        victim.map(|running| running.node).ok_or_else(|| failed("no lease answered", "see the hosts' logs"))?;
    for host in &mut cloud.hosts {
        let is_victim = host.home.read_ready().is_some_and(|ready| ready.node == victim.to_string());
        if is_victim || tour.sabotages(Step::Run) {
            host.kill().await;
        }
    }
    tour.say(&format!("killed host {}, which had answered", short(&victim.to_string())));
    let mut answers = 0;
    let shown = loop {
        let (status, _, body) = get(door).await?;
        if status != 200 {
            return Err(
                failed("a request was lost", "see the hosts' logs").between("200", format!("{status} {}", body.trim()))
            );
        }
        answers += 1;
        let shown = apps.show(NAME).await.map_err(sdk_fault)?;
        if is_whole(&shown, victim) {
            break shown;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    tour.say(&format!("asked {answers} times meanwhile, and answered each time; its replica runs elsewhere now:"));
    for running in &shown.replicas {
        let node = short(&running.node.to_string());
        let rate = money::show(U256::from(running.lease.rate) * U256::from(3600));
        tour.say(&format!("  {:<7} node {node}  lease {}, {rate} an hour", running.zone, running.lease.id));
    }
    drop(tasks);

    let over = apps.delete(NAME).await.map_err(sdk_fault)?;
    let statement = over.statement.ok_or_else(|| failed("there is no bill", "see the validators' logs"))?;
    tour.say(&format!(
        "its bill: {} were put in escrow, {} at first and {} for the replica that was placed again; {} of that went to {} \
         operators, {} were burned, {} came back",
        money::exact(statement.escrow()),
        money::exact(deposit),
        money::exact(statement.escrow().saturating_sub(deposit)),
        money::exact(statement.paid() - statement.burned),
        statement.earned.len(),
        money::exact(statement.burned),
        money::exact(statement.returned)
    ));
    if !tour.keep {
        cloud.kill_hosts().await;
    }
    Ok(())
}

/// Wei that are in escrow for it.
async fn deploy(tour: &Tour, apps: &Apps<Link>) -> Result<U256> {
    let wasm = wat::parse_bytes(HELLO).map_err(|error| failed(error, "report it"))?;
    let draft = Draft {
        name: Some(NAME.into()),
        component: Some("hello.wat".into()),
        replicas: Some(REPLICAS as u64),
        term: Some("1h".into()),
        ..Draft::default()
    };
    let lines = Lines::new();
    let spec = draft.check(&lines).map_err(|broken| sdk_fault(broken.into()))?;
    let plan = apps.plan(&spec, &lines).await.map_err(sdk_fault)?;
    for one in plan.stands.iter().filter(|one| one.of != "host") {
        tour.say(&format!("{} of {REPLICAS} will stand on one {}", one.replicas, one.of));
    }
    let deposit = plan.deposit;
    let deployed =
        apps.deploy(&spec, hodei_sdk::app::Payload::Component(&wasm), plan, &mut |_| {}).await.map_err(sdk_fault)?;
    tour.say(&format!(
        "{} replicas of {NAME} are ready, {} in escrow for an hour; the slowest started in {} ms",
        deployed.replicas.len(),
        money::exact(deposit),
        deployed.cold_ms
    ));
    Ok(deposit)
}

/// Whether all of its replicas are ready, and none with the one that died.
fn is_whole(shown: &Shown, dead: NodeKey) -> bool {
    let is_ready = |running: &&hodei_sdk::app::Running| {
        running.node != dead && running.replica.as_ref().is_some_and(|replica| replica.state == State::Ready)
    };
    shown.replicas.len() == REPLICAS && shown.replicas.iter().filter(is_ready).count() == REPLICAS
}

/// Status, lease and body of an answer, as any client would get it.
async fn get(door: SocketAddr) -> Result<(u16, Option<u64>, String)> {
    let asked = async {
        let mut socket = TcpStream::connect(door).await?;
        let request = format!("GET / HTTP/1.0\r\nHost: {NAME}.localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        socket.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = asked.await.map_err(|error| failed(format!("the door to apps: {error}"), "see the hosts' logs"))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let lease = head.lines().find_map(|line| line.strip_prefix("x-hodei-lease: ")?.parse().ok());
    Ok((status, lease, body.to_owned()))
}
