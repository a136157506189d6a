//! The page of messages is complete: every hint that the program can print, and every message that the contract fixes, has a row.
//!
//! The test looks for hints in the source: the texts in calls of `.hint(…)`, and for a call with a name, the texts that the
//! name can have. It fails on a call without a known text, so that no hint is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use autonomy_registry::verify::ErrorClass;

use super::page::{CODE, Page, root};

const PAGE: &str = "docs/troubleshooting.md";

/// Every source file of the program.
pub(super) fn sources() -> Vec<(PathBuf, String)> {
    fn add(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    add(&root().join("src"), &mut found);
    found.sort();
    found
}

/// A text with values, as a page shows it: `…` for each value, white space as one space.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, value)) = rest.split_once('{') {
        shown.push_str(before);
        rest = value.split_once('}').map_or("", |(_, after)| after);
        shown.push('…');
    }
    shown.push_str(rest);
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The string literals of an expression, including macros such as `format!`.
#[derive(Default)]
struct Literals(Vec<String>);

impl<'a> Visit<'a> for Literals {
    fn visit_lit_str(&mut self, literal: &'a syn::LitStr) {
        self.0.push(literal.value());
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.0.extend(call.parse_body_with(first_literal).ok());
    }

    // Conditions that choose a text are not texts.
    fn visit_expr_match(&mut self, choice: &'a syn::ExprMatch) {
        choice.arms.iter().for_each(|arm| self.visit_expr(&arm.body));
    }

    fn visit_expr_if(&mut self, choice: &'a syn::ExprIf) {
        self.visit_block(&choice.then_branch);
        choice.else_branch.iter().for_each(|(_, other)| self.visit_expr(other));
    }
}

/// The constants in an expression, and its functions with `hint` in their name.
#[derive(Default)]
struct Others(Vec<String>);

impl<'a> Visit<'a> for Others {
    fn visit_path(&mut self, path: &'a syn::Path) {
        let last = path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        let is_constant = last.len() > 1 && last.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if is_constant || last.contains("_hint") {
            self.0.push(last);
        }
        visit::visit_path(self, path);
    }
}

/// Whether an expression is assigned to a field `hint`.
#[derive(Default)]
struct Fields {
    has_hint: bool,
}

impl<'a> Visit<'a> for Fields {
    fn visit_member(&mut self, member: &'a syn::Member) {
        self.has_hint |= matches!(member, syn::Member::Named(name) if name == "hint");
    }
}

fn first_literal(input: syn::parse::ParseStream<'_>) -> syn::Result<String> {
    let literal: syn::LitStr = input.parse()?;
    let _: proc_macro2::TokenStream = input.parse()?;
    Ok(literal.value())
}

fn literals(expression: &syn::Expr) -> Vec<String> {
    let mut found = Literals::default();
    found.visit_expr(expression);
    found.0
}

/// The name that an expression consists of, without borrows and conversions.
fn name(expression: &syn::Expr) -> Option<String> {
    match expression {
        syn::Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        syn::Expr::Reference(inner) => name(&inner.expr),
        syn::Expr::MethodCall(call) if call.method == "unwrap_or_default" => name(&call.receiver),
        syn::Expr::MethodCall(call) => Some(call.method.to_string()),
        syn::Expr::Call(call) => name(&call.func),
        _ => None,
    }
}

/// Texts and names that may be hints.
#[derive(Default)]
struct Found {
    /// Calls of `.hint(…)`, in tests too.
    calls: usize,
    texts: Vec<String>,
    /// Names in calls of `.hint(…)`.
    names: Vec<String>,
    /// Constants and functions that give a variable called `hint` its text.
    named_elsewhere: Vec<String>,
    /// Texts by the name that they are assigned to: a variable, a constant, a field, a function or a parameter.
    named: Vec<(String, String)>,
    /// Closures and functions of this file with a parameter for the hint, and its position.
    takers: Vec<(String, usize)>,
    /// Arguments of calls in this file: function, position, text.
    arguments: Vec<(String, usize, String)>,
    is_test: bool,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|one| match &one.meta {
        syn::Meta::List(list) => one.path().is_ident("cfg") && list.tokens.to_string().contains("test"),
        syn::Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        syn::Meta::NameValue(_) => false,
    })
}

/// The position of a parameter called `hint`.
fn hint_position<'a>(parameters: impl Iterator<Item = &'a syn::Pat>) -> Option<usize> {
    let mut parameters = parameters;
    parameters.position(|parameter| match parameter {
        syn::Pat::Ident(ident) => ident.ident == "hint",
        syn::Pat::Type(typed) => matches!(&*typed.pat, syn::Pat::Ident(ident) if ident.ident == "hint"),
        _ => false,
    })
}

fn typed(inputs: &syn::punctuated::Punctuated<syn::FnArg, syn::token::Comma>) -> impl Iterator<Item = &syn::Pat> {
    inputs.iter().filter_map(|input| if let syn::FnArg::Typed(typed) = input { Some(&*typed.pat) } else { None })
}

impl Found {
    fn name_all(&mut self, name: &str, texts: Vec<String>) {
        self.named.extend(texts.into_iter().map(|text| (name.to_owned(), text)));
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        self.takers
            .extend(hint_position(typed(&signature.inputs)).map(|position| (signature.ident.to_string(), position)));
        let mut texts = Literals::default();
        texts.visit_block(block);
        self.name_all(&signature.ident.to_string(), texts.0);
    }
}

impl<'a> Visit<'a> for Found {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        let before = self.is_test;
        self.is_test |= is_test(&module.attrs);
        visit::visit_item_mod(self, module);
        self.is_test = before;
    }

    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let before = self.is_test;
        self.is_test |= is_test(&function.attrs);
        if !self.is_test {
            self.function(&function.sig, &function.block);
        }
        visit::visit_item_fn(self, function);
        self.is_test = before;
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !self.is_test {
            self.function(&function.sig, &function.block);
        }
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_local(&mut self, local: &'a syn::Local) {
        if let Some(init) = &local.init {
            let mut names = Vec::new();
            bound(&local.pat, &mut names);
            if let (syn::Expr::Closure(closure), Some(name)) = (&*init.expr, names.first()) {
                self.takers.extend(hint_position(closure.inputs.iter()).map(|position| (name.clone(), position)));
            }
            if !self.is_test && names.iter().any(|name| name == "hint") {
                let mut others = Others::default();
                others.visit_expr(&init.expr);
                self.named_elsewhere.extend(others.0);
                let texts = if names.len() == 1 { literals(&init.expr) } else { last_of_tuples(&init.expr) };
                self.name_all("hint", texts);
            }
        }
        visit::visit_local(self, local);
    }

    fn visit_item_const(&mut self, constant: &'a syn::ItemConst) {
        if self.is_test {
            return;
        }
        self.name_all(&constant.ident.to_string(), literals(&constant.expr));
        visit::visit_item_const(self, constant);
    }

    fn visit_field_value(&mut self, field: &'a syn::FieldValue) {
        if !self.is_test && matches!(&field.member, syn::Member::Named(name) if name == "hint") {
            self.texts.extend(literals(&field.expr));
            self.names.extend(name(&field.expr).filter(|name| name.chars().all(|c| c.is_uppercase())));
        }
        visit::visit_field_value(self, field);
    }

    fn visit_expr_assign(&mut self, assignment: &'a syn::ExprAssign) {
        let mut left = Fields::default();
        left.visit_expr(&assignment.left);
        if !self.is_test && left.has_hint {
            self.texts.extend(literals(&assignment.right));
        }
        visit::visit_expr_assign(self, assignment);
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        if let (false, Some(function)) = (self.is_test, name(&call.func)) {
            for (position, argument) in call.args.iter().enumerate() {
                let texts = literals(argument).into_iter().map(|text| (function.clone(), position, text));
                self.arguments.extend(texts);
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if call.method == "hint"
            && let Some(argument) = call.args.first()
        {
            self.calls += 1;
            if !self.is_test {
                let texts = literals(argument);
                if texts.is_empty() {
                    self.names
                        .push(name(argument).unwrap_or_else(|| panic!("a hint of another form than this test knows")));
                }
                self.texts.extend(texts);
            }
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn bound(pattern: &syn::Pat, names: &mut Vec<String>) {
    match pattern {
        syn::Pat::Ident(ident) => names.push(ident.ident.to_string()),
        syn::Pat::Tuple(tuple) => tuple.elems.iter().for_each(|element| bound(element, names)),
        syn::Pat::Type(typed) => bound(&typed.pat, names),
        _ => {}
    }
}

/// The last elements of the tuples that an expression can be: `let (kind, hint) = …`.
fn last_of_tuples(expression: &syn::Expr) -> Vec<String> {
    struct Tuples(Vec<String>);
    impl<'a> Visit<'a> for Tuples {
        fn visit_expr_tuple(&mut self, tuple: &'a syn::ExprTuple) {
            self.0.extend(tuple.elems.last().into_iter().flat_map(literals));
        }
    }
    let mut tuples = Tuples(Vec::new());
    tuples.visit_expr(expression);
    tuples.0
}

/// All hints in `sources`.
fn hints(sources: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut all = Found::default();
    for (path, text) in sources {
        let file = syn::parse_file(text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let before = all.calls;
        all.is_test = path.iter().any(|part| part == "tests") || path.ends_with("tests.rs");
        all.visit_file(&file);
        let written = text.matches(".hint(").count() - text.matches(".hint()").count();
        assert_eq!(all.calls - before, written, "{}: a hint in a macro is not seen", path.display());
        let (takers, arguments) = (std::mem::take(&mut all.takers), std::mem::take(&mut all.arguments));
        let taken =
            arguments.into_iter().filter(|(function, position, _)| takers.contains(&(function.clone(), *position)));
        all.named.extend(taken.map(|(_, _, text)| ("hint".to_owned(), text)));
    }
    let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, text) in &all.named {
        by_name.entry(name).or_default().insert(text);
    }
    let mut found: BTreeSet<String> = all.texts.iter().map(|text| shown(text)).collect();
    for name in &all.names {
        let texts = by_name.get(&**name);
        assert!(texts.is_some(), "`.hint({name})`: no text is found for it; call what holds it `hint`");
        found.extend(texts.into_iter().flatten().map(|text| shown(text)));
    }
    for name in &all.named_elsewhere {
        found.extend(by_name.get(&**name).into_iter().flatten().map(|text| shown(text)));
    }
    // A text of values alone passes on another hint.
    found.retain(|text| text.chars().any(char::is_alphabetic));
    found
}

/// The texts in code spans in the first column of the page's tables.
fn explained(page: &Page) -> BTreeSet<String> {
    page.rows.iter().filter(|(_, cells)| cells.len() == 3).flat_map(|(_, cells)| spans(&cells[0])).collect()
}

/// The code spans of a cell, between the control characters that the page reader puts there.
fn spans(cell: &str) -> Vec<String> {
    cell.split(CODE).skip(1).step_by(2).map(str::to_owned).collect()
}

/// The fixed messages of the contract.
fn fixed(contract: &Page) -> Vec<String> {
    let start = contract.source.find("### Fixed messages").unwrap();
    let first = contract.source[..start].lines().count();
    let rows =
        contract.rows.iter().skip_while(|(line, _)| *line < first).skip(1).take_while(|(_, cells)| cells.len() == 2);
    rows.take(9).flat_map(|(_, cells)| spans(&cells[1])).collect()
}

#[test]
fn every_hint_has_a_row_and_every_row_has_a_message() {
    let (sources, page) = (sources(), Page::read(PAGE));
    let (hints, explained) = (hints(&sources), explained(&page));
    assert!(hints.len() > 100, "only {} hints were found", hints.len());
    let missing: Vec<_> =
        hints.iter().filter(|hint| !explained.contains(*hint)).map(|hint| format!("`{hint}`")).collect();
    assert!(missing.is_empty(), "{PAGE} has no row for {} hints:\n{}", missing.len(), missing.join("\n"));

    let fixed = fixed(&Page::read("docs/contract.md"));
    let classes: Vec<_> = ErrorClass::ALL.iter().map(|class| class.as_str()).collect();
    let is_known = |text: &String| hints.contains(text) || fixed.contains(text) || classes.contains(&text.as_str());
    let unknown: Vec<_> = explained.iter().filter(|text| !is_known(text)).collect();
    assert!(unknown.is_empty(), "{PAGE} explains what the program does not print: {unknown:#?}");
    for class in classes {
        assert!(explained.contains(class), "{PAGE} has no row for {class}");
    }
}

#[test]
fn every_fixed_message_is_printed_and_has_a_row() {
    let fixed = fixed(&Page::read("docs/contract.md"));
    assert!(fixed.len() >= 10, "{fixed:?}");
    let (sources, explained) = (sources(), explained(&Page::read(PAGE)));
    for message in fixed {
        assert!(explained.contains(&message), "{PAGE} has no row for `{message}`");
        // Verification builds its texts from a side and the rest.
        let rest = message.trim_start_matches("source ").trim_start_matches("destination ");
        assert!(sources.iter().any(|(_, text)| text.contains(rest)), "nothing prints `{message}`");
    }
}

#[test]
fn a_new_hint_is_found_in_every_form() {
    let source = r#"
        const GONE: &str = "of a constant";
        fn hint(ok: bool) -> &'static str { if ok { "of a function" } else { "or the other" } }
        fn some() {
            error.hint("a literal");
            error.hint(format!("with {value} in it"));
            error.hint(hint(true));
            error.hint(GONE);
            let hint = if wide { "of a variable" } else { GONE };
            error.hint(hint);
            let refused = |text: &str, hint: &str| error(text).hint(hint);
            refused("no hint", "of a parameter");
            self.hint = Some(format!("of a field"));
            Fate::Gone { hint: "of another field" };
        }
        #[cfg(test)]
        mod tests { fn t() { error.hint("of a test"); } }
    "#;
    let found = hints(&[(PathBuf::from("src/x.rs"), source.to_owned())]);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "a literal",
            "of a constant",
            "of a field",
            "of a function",
            "of a parameter",
            "of a variable",
            "of another field",
            "or the other",
            "with … in it"
        ]
    );
}
