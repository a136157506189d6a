//! The tools, as templates of command lines.
//!
//! A template is words between spaces, with places to fill in: `{from}` and `{to}` (references without a scheme),
//! `{from-host}`, `{to-host}`, `{out}` (an empty folder), and for tools that take many images at once `{catalog}` (ours),
//! `{regsync}` (regsync's) or `{list}` (a line `from to` an image). A template with one of the last three runs once for a
//! catalog, any other once an image. `{ca}` and `{certs}` are the certificate of the CA to trust, as a file and in a
//! folder: a template with one of them is for the workloads with TLS.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use testkit::registry;
use testkit::tls::Authority;

use crate::AUTONOMY;
use crate::peer::PEERS;
use crate::plan;
use crate::workload::{Before, Entry, Transport, Workload};

/// One tool that may be measured.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Whether it hashes every byte that it carries.
    pub(crate) is_checking: bool,
    /// For one image, if it can do that.
    each: Option<Vec<String>>,
    /// For a catalog at once, if it can do that.
    whole: Option<Vec<String>>,
    /// Over TLS, if it can do that.
    secured: Option<Vec<String>>,
    when: When,
}

/// Which workloads it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Where there is a round trip to hide: more concurrency.
    Far,
    Catalog,
    /// Where nothing is far: only the requests matter.
    Counted,
}

/// The environment of one run.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// An empty folder for this run.
    pub(crate) folder: &'a Path,
    /// The home folder of the tool: its own, and the same in every round.
    pub(crate) home: &'a Path,
    /// The CA of registries with TLS.
    pub(crate) authority: &'a Authority,
}

/// Places for a whole catalog.
const WHOLE: [&str; 4] = ["{catalog}", "{regsync}", "{list}", "{plan}"];
const SEED: &str = "registry seed --from {from} --to {to} --out {out}";
const CATALOG: &str = "registry seed-catalog --catalog {catalog} --out {out}";
/// Like the peers: without verification and accessories.
const AS_PEERS: &str = "--allow-insecure-registry --skip-verify --accessories none --progress none";
/// With our defaults: accessories are copied too. There is no policy to verify with.
const BY_DEFAULT: &str = "--allow-insecure-registry --skip-verify --progress none";
const OVER_TLS: &str = "--ca-file {ca} --skip-verify --accessories none --progress none";

/// Our program, the bound, and every peer that is on this machine.
pub(crate) fn known() -> Vec<Tool> {
    let mut tools = Vec::new();
    for (name, flags, when) in [("autonomy", AS_PEERS, When::Always), ("autonomy-defaults", BY_DEFAULT, When::Counted)]
    {
        let [each, whole] = [SEED, CATALOG].map(|command| Some(words(&format!("{AUTONOMY} {command} {flags}"))));
        let secured = (when == When::Always).then(|| words(&format!("{AUTONOMY} {SEED} {OVER_TLS}")));
        tools.push(Tool { name: name.to_owned(), is_checking: true, each, whole, secured, when });
    }
    let this = std::env::current_exe().unwrap().display().to_string();
    for (name, streams, when) in [("bound", "{streams}", When::Always), ("bound-64", "64", When::Far)] {
        let template = format!("{this} bound {streams} {{plan}} {{from-host}} {{to-host}}");
        tools.push(Tool { is_checking: true, when, ..Tool::given(name, &template) });
    }
    for (name, program, template, secured, when) in PEERS {
        let Some(program) = registry::find(program).map(|program| program.display().to_string()) else { continue };
        let fill = |template: &str| template.replace("{program}", &program);
        let secured = secured.map(|template| words(&fill(template)));
        // oras leaves the checking of blobs to the destination.
        let is_checking = !name.starts_with("oras");
        tools.push(Tool { is_checking, secured, when, ..Tool::given(name, &fill(template)) });
    }
    tools
}

/// Reads `name=template`.
pub(crate) fn parse(text: &str) -> Result<Tool, String> {
    let (name, template) = text.split_once('=').ok_or("a tool is name=template")?;
    if !template.contains("{to}") && !WHOLE.iter().any(|place| template.contains(place)) {
        return Err(format!("the template of {name} has neither {{to}} nor one of {}", WHOLE.join(" ")));
    }
    Ok(Tool::given(name, template))
}

fn words(template: &str) -> Vec<String> {
    template.split_whitespace().map(str::to_owned).collect()
}

impl Tool {
    fn given(name: &str, template: &str) -> Self {
        let names = |places: &[&str]| places.iter().any(|place| template.contains(place));
        let (mut each, mut whole, mut secured) = (None, None, None);
        let place = match () {
            () if names(&["{ca}", "{certs}"]) => &mut secured,
            () if names(&WHOLE) => &mut whole,
            () => &mut each,
        };
        *place = Some(words(template));
        Self { name: name.to_owned(), is_checking: false, each, whole, secured, when: When::Always }
    }

    /// Whether it is ours, or the bound.
    pub(crate) fn is_own(&self) -> bool {
        self.name.starts_with("autonomy") || self.is_bound()
    }

    fn is_bound(&self) -> bool {
        self.name.starts_with("bound")
    }

    /// Whether its runs are counted and not timed: it only runs in round 0.
    pub(crate) fn is_counted_only(&self) -> bool {
        self.when == When::Counted
    }

    /// The transport of the registries that it copies between. The bound has no TLS and runs without it, beside tools that
    /// have it.
    pub(crate) fn transport(&self, workload: &Workload) -> Transport {
        if self.is_bound() { Transport::Plain } else { workload.transport }
    }

    /// Whether it is measured on `workload`.
    pub(crate) fn suits(&self, workload: &Workload) -> bool {
        let is_able = match self.transport(workload) {
            Transport::Plain => self.each.is_some() || self.whole.is_some(),
            Transport::Tls => self.secured.is_some(),
        };
        is_able
            && match self.when {
                When::Always => true,
                When::Far => !workload.link.round_trip.is_zero() && matches!(workload.before, Before::Nothing),
                When::Catalog => workload.entries.len() > 1,
                When::Counted => workload.link.is_near() && workload.at.is_none(),
            }
    }

    /// The processes that do it.
    pub(crate) fn commands(&self, place: &Place<'_>) -> Vec<Command> {
        let entries = &place.workload.entries;
        let (each, whole) = match self.transport(place.workload) {
            Transport::Plain => (&self.each, &self.whole),
            Transport::Tls => (&self.secured, &None),
        };
        match (each, whole) {
            (each, Some(whole)) if entries.len() > 1 || each.is_none() => vec![place.command(whole, "")],
            (each, _) => {
                let each = each.as_deref().unwrap_or_default();
                let command = |entry: &Entry| place.command(each, &format!("{}:{}", entry.repository, entry.tag));
                entries.iter().map(command).collect()
            }
        }
    }
}

impl Place<'_> {
    fn command(&self, template: &[String], entry: &str) -> Command {
        let mut words = template.iter().map(|word| self.fill(word, entry));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("HOME", self.home);
        // The result must not depend on the user who runs it.
        for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command
    }

    fn fill(&self, word: &str, entry: &str) -> String {
        let file = |name: &str| self.folder.join(name);
        let mut word = word
            .replace("{from}", &format!("{}/{entry}", self.from))
            .replace("{to}", &format!("{}/{entry}", self.to))
            .replace("{from-host}", self.from)
            .replace("{to-host}", self.to)
            .replace("{streams}", if self.workload.link.round_trip.is_zero() { "4" } else { "16" })
            .replace("{ca}", &self.authority.file().display().to_string())
            .replace("{certs}", &self.authority.folder().display().to_string())
            .replace("{out}", &file("out").display().to_string());
        for name in ["plan", "catalog", "list", "regsync", "regctl"] {
            let mark = format!("{{{name}}}");
            if word.contains(&mark) {
                let path = file(name);
                std::fs::write(&path, self.text(name)).unwrap();
                word = word.replace(&mark, &path.display().to_string());
            }
        }
        word
    }

    /// The content of the file with that name.
    fn text(&self, name: &str) -> String {
        match name {
            "plan" => plan::plan(self.workload).iter().map(|task| format!("{task}\n")).collect(),
            "catalog" => self.pairs("version: 1\nentries:\n", |from, to| format!("  - from: {from}\n    to: {to}\n")),
            "list" => self.pairs("", |from, to| format!("{from} {to}\n")),
            "regsync" => self.regsync(),
            _ => self.regctl(),
        }
    }

    fn regsync(&self) -> String {
        let mut head = "version: 1\ncreds:\n".to_owned();
        for host in [self.from, self.to] {
            let _ = writeln!(head, "  - registry: {host}\n    tls: disabled");
        }
        head += "defaults:\n  parallel: 4\nsync:\n";
        self.pairs(&head, |from, to| format!("  - source: {from}\n    target: {to}\n    type: image\n"))
    }

    fn regctl(&self) -> String {
        let host = |host: &str| (host.to_owned(), json!({"tls": "disabled", "hostname": host, "reqConcurrent": 16}));
        json!({"hosts": serde_json::Map::from_iter([host(self.from), host(self.to)])}).to_string()
    }

    fn pairs(&self, head: &str, line: fn(&str, &str) -> String) -> String {
        let mut text = head.to_owned();
        for entry in &self.workload.entries {
            let name = format!("{}:{}", entry.repository, entry.tag);
            text += &line(&format!("{}/{name}", self.from), &format!("{}/{name}", self.to));
        }
        text
    }
}
