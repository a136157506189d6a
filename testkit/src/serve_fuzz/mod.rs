//! Endless requests to `autonomy registry serve`, most of them changed to be invalid.
//!
//! Each client has a repository of its own, where every request is valid and has one right answer, and others for
//! everything else. Meanwhile servers are killed and restarted, a second one starts and stops on the same folder, and
//! garbage is collected. Acknowledged content must be there until a client removes it, on every server; no server may end
//! or panic, answer with 5xx other than 507, serve a file from outside its folder, or grow.
//!
//! A seed draws the same requests again; upload sessions have names chosen by the server, and the order of clients depends
//! on the machine.

mod book;
mod client;
mod draw;
mod files;
mod grammar;
mod mutate;
mod own;
mod request;
mod site;
mod wild;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;

use self::client::Client;
use self::draw::Draw;
use self::grammar::Known;
use self::own::Own;
use self::request::Request;
use self::site::Site;
use self::world::World;

/// Concurrent clients.
const NAMES: [&str; 8] = ["alpha", "bravo", "cedar", "delta", "ember", "fjord", "grove", "haven"];
/// The repository of all clients.
const SHARED: &str = "shared/wild";
/// Peak memory allowed for a server, in KiB.
const MAX_KIB: u64 = 256 << 10;
/// Descriptors allowed above the number at the start, once a server's clients are gone.
const MAX_MORE_DESCRIPTORS: usize = 16;
/// Most threads of a server: those that wait for disks are 512 at most, and end after some seconds without work.
const MAX_THREADS: u64 = 530;
/// The client number in the seed of events.
const EVENTS: u64 = u64::MAX;

/// The length of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The program `autonomy`.
    pub program: &'static str,
    pub seed: u64,
    pub time: Duration,
    /// Ends earlier after this many requests.
    pub requests: u64,
    /// Requests between two events, such as a server that is killed.
    pub pause: u64,
    /// Most servers on the folder at the same time: 1 or 2.
    pub servers: u64,
}

/// The result.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    pub unanswered: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    pub restarts: u64,
    pub collections: u64,
    /// Files that match their names.
    pub blobs: usize,
    pub peak_kib: u64,
    pub faults: Vec<String>,
}

/// Runs the plan.
pub fn run(plan: Plan) -> Outcome {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let credentials = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("user:secret"));
    let canary = format!("canary-{:x}", Draw::new(plan.seed, EVENTS, EVENTS).next());
    let world = Arc::new(World::new(plan.seed, credentials, canary));
    let mut site = Site::new(Arc::clone(&world), plan.program, &format!("user:{hash}\n"));
    site.start(0, false);
    let fresh = site.held(0);
    let clients: Vec<_> = (0..NAMES.len())
        .map(|number| {
            let world = Arc::clone(&world);
            thread::spawn(move || attend(&world, number))
        })
        .collect();
    lead(plan, &world, &mut site);
    world.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        if client.join().is_err() {
            world.fault("a client has panicked", &[]);
        }
    }
    let blobs = settle(&world, &mut site, fresh);
    let outcome = Outcome {
        requests: world.requests.load(Ordering::Relaxed),
        unanswered: world.unanswered.load(Ordering::Relaxed),
        answers: world.answers.lock().unwrap().clone(),
        restarts: site.restarts,
        collections: site.collections,
        blobs,
        peak_kib: site.peak,
        faults: world.faults.lock().unwrap().clone(),
    };
    drop(site);
    outcome
}

/// Runs one client to the end.
fn attend(world: &Arc<World>, number: usize) {
    let name = NAMES[number];
    let mut client = Client::new(Arc::clone(world));
    let mut own = Own::new(format!("{name}/app"), SHARED.to_owned());
    let repositories = vec![format!("{name}/wild"), SHARED.to_owned(), format!("{name}/wild/blobs/uploads")];
    let mut known = Known { repositories, origin: own.repository.clone(), ..Known::default() };
    for step in 0.. {
        if world.is_over() {
            return;
        }
        let mut draw = Draw::new(world.seed, number as u64, step);
        if draw.percent(30) {
            own::step(&mut client, &mut own, &mut draw);
            // This content can be mounted elsewhere, and requested where it is missing.
            if draw.percent(5) {
                known.blobs.extend(draw.one(&own.blobs()));
            }
        } else {
            wild::step(&mut client, &mut known, &mut draw);
        }
    }
}

/// Kills and starts servers, and collects garbage, until the plan is done.
fn lead(plan: Plan, world: &World, site: &mut Site) {
    let begun = Instant::now();
    let (mut event, mut next) = (0, plan.pause);
    let mut told = Instant::now();
    while !world.is_over() && begun.elapsed() < plan.time {
        let requests = world.requests.load(Ordering::Relaxed);
        if requests >= plan.requests {
            break;
        }
        if requests >= next {
            disturb(&mut Draw::new(plan.seed, EVENTS, event), plan, world, site);
            event += 1;
            next = world.requests.load(Ordering::Relaxed) + plan.pause;
        }
        site.look();
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            let (minutes, peak) = (begun.elapsed().as_secs() / 60, site.peak / 1024);
            println!("minute {minutes}: {requests} requests, {} restarts, {peak} MiB", site.restarts);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// One event.
fn disturb(draw: &mut Draw, plan: Plan, world: &World, site: &mut Site) {
    let with_users = draw.percent(50);
    match draw.below(10) {
        _ if plan.servers < 2 && draw.percent(50) => {
            site.end(0, draw.percent(70));
            site.start(0, with_users);
        }
        0..3 => {
            site.end(0, true);
            site.start(0, with_users);
        }
        3..7 if plan.servers < 2 => {}
        3..6 => match site.is_running(1) {
            true => site.end(1, draw.percent(50)),
            false => site.start(1, with_users),
        },
        6 => {
            // A restart with overlap: the new server takes over before the old one ends.
            site.end(1, false);
            site.start(1, with_users);
            site.end(0, false);
            site.start(0, with_users);
        }
        7..9 => {
            let older_than = Duration::from_secs(600);
            world.book.lock().unwrap().collecting(older_than);
            let more: &[&[&str]] = &[&[], &["--untagged"], &["--dry-run"]];
            site.collect(&[&["--older-than", "10m"], more[draw.below(3)]].concat());
        }
        _ => {
            site.collected();
            site.end(0, true);
            site.end(1, true);
            world.book.lock().unwrap().collecting(Duration::ZERO);
            world.clearances.fetch_add(1, Ordering::Relaxed);
            site.collect(if draw.percent(50) {
                &["--older-than", "0s", "--untagged"]
            } else {
                &["--older-than", "0s"]
            });
            site.collected();
            site.start(0, with_users);
        }
    }
}

/// Checks everything that must hold in the end. Returns the number of blobs.
fn settle(world: &Arc<World>, site: &mut Site, fresh: Option<site::Held>) -> usize {
    site.collected();
    site.end(1, false);
    let begun = Instant::now();
    let held = loop {
        let held = site.held(0);
        let is_small = |held: site::Held, fresh: site::Held| {
            held.descriptors <= fresh.descriptors + MAX_MORE_DESCRIPTORS && held.threads <= MAX_THREADS
        };
        if held.zip(fresh).is_some_and(|(held, fresh)| is_small(held, fresh)) {
            break None;
        }
        if begun.elapsed() > Duration::from_secs(20) {
            break Some(held);
        }
        thread::sleep(Duration::from_millis(20));
    };
    if let Some(held) = held {
        world.fault(&format!("without clients a server still holds {held:?}; when it had started: {fresh:?}"), &[]);
    }
    site.end(0, true);
    site.start(0, false);
    let mut client = Client::new(Arc::clone(world));
    let expected = world.book.lock().unwrap().expected(None);
    expected.iter().for_each(|(place, sort)| own::check_one(&mut client, place, *sort));
    for name in NAMES {
        let repository = format!("{name}/app");
        let tags = world.book.lock().unwrap().tags(&repository);
        tags.iter().for_each(|(tag, named)| own::check_tag(&mut client, &repository, tag, named));
    }
    resolve(&mut client);
    site.end(0, false);
    if site.peak > MAX_KIB {
        world.fault(&format!("a server has grown to {} MiB", site.peak / 1024), &[]);
    }
    site.strays().iter().for_each(|path| world.fault(&format!("touched: {}", path.display()), &[]));
    files::check(world, &site.data())
}

/// Checks that every tag of every repository names a readable manifest.
fn resolve(client: &mut Client) {
    let mut list = |path: String, key: &str| own::pages(client, path, key).unwrap_or_default();
    let repositories = list("/v2/_catalog".to_owned(), "repositories");
    let mut tags = Vec::new();
    for repository in repositories.iter().filter_map(|name| name.as_str()) {
        let listed = list(format!("/v2/{repository}/tags/list"), "tags");
        tags.extend(
            listed.iter().filter_map(|tag| tag.as_str()).map(|tag| format!("/v2/{repository}/manifests/{tag}")),
        );
    }
    for path in tags {
        let request = Request::new("GET", path);
        let status = client.ask(&request).map(|answer| answer.status);
        if status.is_some_and(|status| status != 200) {
            client.world.fault(&format!("a tag that is listed names nothing: {status:?}"), &request.bytes());
        }
    }
}
