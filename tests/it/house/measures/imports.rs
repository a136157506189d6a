//! Imports between files: which room imports from which, and which files form cycles.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::code::Share;
use super::source::File;

/// Longest chain of re-exports that is followed.
const MAX_HOPS: usize = 16;

/// One import, between files given by their place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A module: its file, the items it declares and the names it imports.
#[derive(Default)]
struct Module {
    file: usize,
    items: BTreeSet<String>,
    imported: Vec<(String, Vec<String>)>,
    globs: Vec<Vec<String>>,
}

/// All modules of the crate, by path.
struct Modules(BTreeMap<Vec<String>, Module>);

/// A path in a module, such as `crate::store::Store`.
struct Named {
    module: Vec<String>,
    path: Vec<String>,
    is_reexport: bool,
}

/// Every arrow between two files, without re-exports from a folder by its `mod.rs`.
pub(super) fn arrows(files: &[File]) -> BTreeSet<Arrow> {
    let (mut modules, mut named) = (Modules(BTreeMap::new()), Vec::new());
    for (index, file) in files.iter().enumerate() {
        collect(&file.syntax.items, &file.module, index, &mut modules, &mut named);
    }
    let arrow = |named: &Named| {
        let (from, to) = (modules.0[&named.module].file, modules.resolve(&named.module, &named.path, 0)?);
        let is_inside = files[to].module.starts_with(&files[from].module);
        (from != to && !(named.is_reexport && is_inside)).then_some(Arrow { from, to })
    };
    named.iter().filter_map(arrow).collect()
}

fn collect(items: &[syn::Item], path: &[String], file: usize, modules: &mut Modules, named: &mut Vec<Named>) {
    let mut module = Module { file, ..Module::default() };
    for item in items {
        match item {
            syn::Item::Use(item) => {
                let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
                let paths = leaves(&item.tree);
                named.extend(paths.iter().map(|(_, leaf)| Named {
                    module: path.to_vec(),
                    path: leaf.clone(),
                    is_reexport,
                }));
                for (name, leaf) in paths {
                    if name == "*" { module.globs.push(leaf) } else { module.imported.push((name, leaf)) }
                }
            }
            syn::Item::Mod(inner) => {
                if let Some((_, items)) = &inner.content {
                    let path = [path, &[inner.ident.to_string()]].concat();
                    collect(items, &path, file, modules, named);
                }
            }
            item => {
                module.items.extend(name(item));
                let mut paths = Paths::default();
                paths.visit_item(item);
                let written = |leaf| Named { module: path.to_vec(), path: leaf, is_reexport: false };
                named.extend(paths.0.into_iter().map(written));
            }
        }
    }
    modules.0.insert(path.to_vec(), module);
}

fn name(item: &syn::Item) -> Option<String> {
    Some(match item {
        syn::Item::Const(item) => item.ident.to_string(),
        syn::Item::Enum(item) => item.ident.to_string(),
        syn::Item::Fn(item) => item.sig.ident.to_string(),
        syn::Item::Static(item) => item.ident.to_string(),
        syn::Item::Struct(item) => item.ident.to_string(),
        syn::Item::Trait(item) => item.ident.to_string(),
        syn::Item::Type(item) => item.ident.to_string(),
        syn::Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// Every path of a `use`, with the name that it imports; `*` for a glob.
fn leaves(tree: &syn::UseTree) -> Vec<(String, Vec<String>)> {
    match tree {
        syn::UseTree::Path(path) => {
            let below = |(name, rest): (String, Vec<String>)| (name, [vec![path.ident.to_string()], rest].concat());
            leaves(&path.tree).into_iter().map(below).collect()
        }
        syn::UseTree::Name(name) if name.ident == "self" => vec![("self".to_owned(), vec![])],
        syn::UseTree::Name(name) => vec![(name.ident.to_string(), vec![name.ident.to_string()])],
        syn::UseTree::Rename(name) => vec![(name.rename.to_string(), vec![name.ident.to_string()])],
        syn::UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        _ => vec![("*".to_owned(), vec![])],
    }
}

/// Paths in code that begin with `crate`, `super` or `self`, including paths inside macros and attributes.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

const BEGINNINGS: [&str; 3] = ["crate", "super", "self"];

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 && BEGINNINGS.contains(&names[0].as_str()) {
            self.0.push(names);
        }
        visit::visit_path(self, path);
    }

    /// A visibility names a module and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(list.tokens.clone());
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.0.extend(leaves(&item.tree).into_iter().map(|(_, path)| path));
    }
}

impl Paths {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if path.last().is_some_and(|last| last != "::") {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                    if path.last().is_some_and(|last| last != "::") {
                        path.push("::".to_owned());
                    }
                }
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.tokens(group.stream());
                }
                _ => self.end(&mut path),
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let names: Vec<_> = path.drain(..).filter(|part| part != "::").collect();
        if names.len() > 1 && BEGINNINGS.contains(&names[0].as_str()) {
            self.0.push(names);
        }
    }
}

impl Modules {
    /// The file that declares the target of `path` in `module`; `None` if that is no file of this crate.
    fn resolve(&self, module: &[String], path: &[String], hops: usize) -> Option<usize> {
        let mut at = module.to_vec();
        let mut rest = path;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ => break,
            }
            rest = behind;
        }
        let is_relative = rest.len() == path.len();
        for (index, name) in rest.iter().enumerate() {
            let child = [&at[..], std::slice::from_ref(name)].concat();
            if self.0.contains_key(&child) {
                at = child;
                continue;
            }
            let here = self.0.get(&at)?;
            if here.items.contains(name) {
                return Some(here.file);
            }
            let is_self = |leaf: &[String]| at == module && leaf == path;
            let imported = here.imported.iter().filter(|(known, leaf)| known == name && !is_self(leaf));
            let through = imported
                .map(|(_, leaf)| leaf.clone())
                .chain(here.globs.iter().map(|glob| [glob, std::slice::from_ref(name)].concat()));
            let found = (hops < MAX_HOPS)
                .then(|| through.filter_map(|leaf| self.resolve(&at, &leaf, hops + 1)).next())
                .flatten();
            let is_outside = is_relative && index == 0;
            return found.or_else(|| (!is_outside).then_some(here.file));
        }
        self.0.get(&at).map(|module| module.file)
    }
}

/// The cycles of a graph: sets of more than one node, each of which leads to all others of its set.
pub(super) fn circles<N: Ord + Clone>(arrows: &BTreeSet<(N, N)>) -> Vec<Vec<N>> {
    let nodes: BTreeSet<_> = arrows.iter().flat_map(|(from, to)| [from, to]).collect();
    let reached = |start: &N| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(node) = next.pop() {
            for (_, to) in arrows.iter().filter(|(from, _)| from == node) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = nodes.iter().map(|node| (*node, reached(node))).collect();
    let mut found: BTreeSet<Vec<N>> = BTreeSet::new();
    for node in &nodes {
        let circle: Vec<_> = nodes
            .iter()
            .filter(|other| reach[*node].contains(*other) && reach[*other].contains(*node))
            .map(|node| (*node).clone())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// The imports of a crate, by room and by folder.
pub(super) struct Structure {
    /// Files and lines of each room; `lib.rs` and `main.rs` are none.
    pub(super) rooms: BTreeMap<String, (usize, usize)>,
    /// Arrows from room to room.
    pub(super) between: BTreeSet<(String, String)>,
    /// Cycles of rooms.
    pub(super) circles_between: Vec<Vec<String>>,
    /// Cycles of the files and folders of one folder, its `mod.rs` left out.
    pub(super) circles_inside: Vec<Vec<String>>,
    /// Files and folders that import from their folder's `mod.rs` and that it imports, beyond re-exports.
    pub(super) circles_with_mod: Vec<String>,
}

pub(super) fn read(files: &[File]) -> Structure {
    let mut rooms = BTreeMap::<String, (usize, usize)>::new();
    for file in files.iter().filter(|file| file.is_in_room()) {
        let room = rooms.entry(file.room().to_owned()).or_default();
        *room = (room.0 + 1, room.1 + file.lines());
    }
    let arrows = arrows(files);
    let ends = arrows.iter().map(|arrow| (&files[arrow.from], &files[arrow.to]));
    let between: BTreeSet<_> = ends
        .filter(|(from, to)| from.is_in_room() && to.is_in_room() && from.room() != to.room())
        .map(|(from, to)| (from.room().to_owned(), to.room().to_owned()))
        .collect();
    let folders: BTreeSet<_> =
        files.iter().flat_map(|file| (1..file.module.len()).map(|end| file.module[..end].to_vec())).collect();
    let (mut circles_inside, mut circles_with_mod) = (Vec::new(), Vec::new());
    for folder in folders {
        let units = units(files, &arrows, &folder);
        let place = |unit: &String| format!("{}/{unit}", folder.join("/"));
        let siblings = units.iter().filter(|(from, to)| from != MOD && to != MOD).cloned().collect();
        circles_inside.extend(circles(&siblings).iter().map(|circle| circle.iter().map(place).collect::<Vec<_>>()));
        let both = units.iter().filter(|(from, to)| from == MOD && units.contains(&(to.clone(), MOD.to_owned())));
        circles_with_mod.extend(both.map(|(_, unit)| place(unit)));
    }
    Structure { rooms, circles_between: circles(&between), between, circles_inside, circles_with_mod }
}

impl Structure {
    /// The room with the most files, and its share.
    pub(super) fn biggest_by_files(&self) -> (&str, Share) {
        self.biggest(|room| room.0)
    }

    /// The room with the most lines, and its share.
    pub(super) fn biggest_by_lines(&self) -> (&str, Share) {
        self.biggest(|room| room.1)
    }

    fn biggest(&self, size: impl Fn(&(usize, usize)) -> usize) -> (&str, Share) {
        let whole = self.rooms.values().map(&size).sum();
        let (name, room) = self.rooms.iter().max_by_key(|(_, room)| size(room)).unwrap();
        (name, Share { part: size(room), whole })
    }
}

/// The name of a folder's own `mod.rs` beside the names of its files and folders.
const MOD: &str = "mod";

/// The arrows between the files and folders that lie directly in `folder`.
fn units(files: &[File], arrows: &BTreeSet<Arrow>, folder: &[String]) -> BTreeSet<(String, String)> {
    let unit = |file: usize| {
        let rest = files[file].module.strip_prefix(folder)?;
        Some(rest.first().map_or(MOD, String::as_str).to_owned())
    };
    let ends = arrows.iter().filter_map(|arrow| Some((unit(arrow.from)?, unit(arrow.to)?)));
    ends.filter(|(from, to)| from != to).collect()
}
