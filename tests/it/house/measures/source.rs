//! Reading source: every file that `lib.rs` and `main.rs` declare, parsed, with its tests or without.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use syn::spanned::Spanned;

/// A file, and which of its lines are tests that were set aside.
pub(super) struct File {
    /// Path below the folder that was read, such as `store/mod.rs`.
    pub(super) name: String,
    /// Module path below the crate, such as `["store", "body"]`; empty for `lib.rs`.
    pub(super) module: Vec<String>,
    pub(super) text: String,
    /// The items of the file, without tests that were set aside.
    pub(super) syntax: syn::File,
    /// Lines of the tests that were removed.
    tests: Vec<RangeInclusive<usize>>,
}

impl File {
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Number of lines, without tests.
    pub(super) fn lines(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test(*line)).count()
    }

    /// The room: the top folder or file that this one belongs to, such as `store`.
    pub(super) fn room(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Whether the file belongs to a room; `lib.rs` and `main.rs` do not.
    pub(super) fn is_in_room(&self) -> bool {
        !matches!(self.room(), "lib" | "main")
    }
}

/// Whether tests are part of the files that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tests {
    Included,
    SetAside,
}

/// Reads the crate whose `lib.rs` lies in `folder`.
pub(super) fn read(folder: &Path, tests: Tests) -> Vec<File> {
    let mut files = Vec::new();
    module(folder, "lib.rs", &[], tests, &mut files);
    if folder.join("main.rs").exists() {
        module(folder, "main.rs", &["main".to_owned()], tests, &mut files);
    }
    files
}

/// Reads the file `name` and the files of the modules that it declares.
fn module(folder: &Path, name: &str, path: &[String], tests: Tests, files: &mut Vec<File>) {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("read {name}: {error}"));
    let file = parse(name, path, text, tests);
    let children: Vec<_> = file.syntax.items.iter().filter_map(declared).collect();
    files.push(file);
    for child in children {
        let path = [path, std::slice::from_ref(&child)].concat();
        let stem = path.join("/");
        let place =
            [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|name| folder.join(name).exists());
        module(folder, &place.unwrap_or_else(|| panic!("no file for module {stem}")), &path, tests, files);
    }
}

pub(super) fn parse(name: &str, module: &[String], text: String, tests: Tests) -> File {
    let mut syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("parse {name}: {error}"));
    let mut removed = Vec::new();
    if tests == Tests::SetAside {
        remove_tests(&mut syntax.items, &mut removed);
    }
    File { name: name.to_owned(), module: module.to_vec(), text, syntax, tests: removed }
}

/// The name of a module in a file of its own.
fn declared(item: &syn::Item) -> Option<String> {
    match item {
        syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    }
}

fn remove_tests(items: &mut Vec<syn::Item>, tests: &mut Vec<RangeInclusive<usize>>) {
    items.retain(|item| {
        let is_test = attributes(item).iter().any(is_for_tests);
        if is_test {
            tests.push(item.span().start().line..=item.span().end().line);
        }
        !is_test
    });
    for item in items {
        match item {
            syn::Item::Mod(syn::ItemMod { content: Some((_, items)), .. }) => remove_tests(items, tests),
            syn::Item::Impl(block) => block.items.retain(|item| {
                let is_test = matches!(item, syn::ImplItem::Fn(method) if method.attrs.iter().any(is_for_tests));
                if is_test {
                    tests.push(item.span().start().line..=item.span().end().line);
                }
                !is_test
            }),
            _ => {}
        }
    }
}

/// Whether the attribute is `cfg(test)`, or `cfg(all(test, …))`.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string();
    list.path.is_ident("cfg") && (condition == "test" || condition.replace(' ', "").starts_with("all(test,"))
}

pub(super) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
