//! Sizes and names: functions, types, and the documentation of both.

use std::collections::BTreeMap;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::File;

/// A function with a body.
pub(super) struct Function {
    pub(super) place: String,
    pub(super) name: String,
    /// From the signature to the closing brace.
    pub(super) lines: usize,
    pub(super) parameters: usize,
    /// Depth of `if`, `match`, loops and closures inside of each other.
    pub(super) nesting: usize,
}

impl Function {
    pub(super) fn place(&self) -> String {
        format!("src/{} {}", self.place, self.name)
    }
}

/// A struct, an enum or a trait.
pub(super) struct Type {
    pub(super) place: String,
    pub(super) name: String,
    /// Fields of a struct; 0 for the others.
    pub(super) fields: usize,
}

/// A count and the total.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) part: usize,
    pub(super) whole: usize,
}

impl Share {
    pub(super) fn percent(self) -> f64 {
        if self.whole == 0 { 0.0 } else { 100.0 * self.part as f64 / self.whole as f64 }
    }
}

/// Every declaration in the files that were read.
#[derive(Default)]
pub(super) struct Code {
    pub(super) functions: Vec<Function>,
    pub(super) types: Vec<Type>,
    /// Public items without documentation: functions, methods, constants and types.
    pub(super) undocumented: Vec<String>,
    pub(super) public_items: usize,
    /// Public functions that return a `Result` and have no `# Errors` section.
    pub(super) without_errors: Vec<String>,
    pub(super) public_results: usize,
    /// Number of public types of each file.
    pub(super) public_types: BTreeMap<String, usize>,
}

pub(super) fn read(files: &[File]) -> Code {
    let mut code = Code::default();
    for file in files {
        Walk { file: &file.name, code: &mut code, is_trait_public: false }.visit_file(&file.syntax);
    }
    code
}

impl Code {
    /// The names of more than one type, each with the places of those types.
    pub(super) fn shared_names(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut names = BTreeMap::<_, Vec<_>>::new();
        for found in &self.types {
            names.entry(found.name.as_str()).or_default().push(found.place.as_str());
        }
        names.retain(|_, places| places.len() > 1);
        names
    }

    /// Types that share their name with another type.
    pub(super) fn types_with_a_shared_name(&self) -> Share {
        Share { part: self.shared_names().values().map(Vec::len).sum(), whole: self.types.len() }
    }
}

struct Walk<'a> {
    file: &'a str,
    code: &'a mut Code,
    is_trait_public: bool,
}

impl Walk<'_> {
    fn place(&self, span: Span) -> String {
        format!("{}:{}", self.file, span.start().line)
    }

    fn function(&mut self, attributes: &[syn::Attribute], is_public: bool, signature: &syn::Signature) {
        let name = &signature.ident;
        self.documentation(attributes, is_public, name);
        let returns = match &signature.output {
            syn::ReturnType::Type(_, returned) => is_result(returned),
            syn::ReturnType::Default => false,
        };
        if is_public && returns {
            self.code.public_results += 1;
            if !documentation(attributes).lines().any(|line| line.trim() == "# Errors") {
                self.code.without_errors.push(format!("{}: {name}", self.place(name.span())));
            }
        }
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let mut depth = Depth::default();
        depth.visit_block(block);
        self.code.functions.push(Function {
            place: self.place(signature.ident.span()),
            name: signature.ident.to_string(),
            lines: block.span().end().line - signature.span().start().line + 1,
            parameters: signature.inputs.len(),
            nesting: depth.deepest,
        });
    }

    fn documentation(&mut self, attributes: &[syn::Attribute], is_public: bool, name: &syn::Ident) {
        self.code.public_items += usize::from(is_public);
        if is_public && documentation(attributes).trim().is_empty() {
            self.code.undocumented.push(format!("{}: {name}", self.place(name.span())));
        }
    }

    fn declared(&mut self, attributes: &[syn::Attribute], vis: &syn::Visibility, name: &syn::Ident, fields: usize) {
        let is_public = is_public(vis);
        self.documentation(attributes, is_public, name);
        if is_public {
            *self.code.public_types.entry(self.file.to_owned()).or_default() += 1;
        }
        let place = self.place(name.span());
        self.code.types.push(Type { place, name: name.to_string(), fields });
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.attrs, is_public(&item.vis), &item.sig);
        self.body(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.attrs, is_public(&item.vis), &item.sig);
        self.body(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.attrs, self.is_trait_public, &item.sig);
        if let Some(block) = &item.default {
            self.body(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.declared(&item.attrs, &item.vis, &item.ident, item.fields.len());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.declared(&item.attrs, &item.vis, &item.ident, 0);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.declared(&item.attrs, &item.vis, &item.ident, 0);
        self.is_trait_public = is_public(&item.vis);
        visit::visit_item_trait(self, item);
        self.is_trait_public = false;
    }

    // An alias declares no type of its own.
    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.documentation(&item.attrs, is_public(&item.vis), &item.ident);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.documentation(&item.attrs, is_public(&item.vis), &item.ident);
        visit::visit_item_const(self, item);
    }
}

/// Measures the nesting depth of a body's blocks.
#[derive(Default)]
struct Depth {
    now: usize,
    deepest: usize,
}

impl Depth {
    fn inside(&mut self, walk: impl FnOnce(&mut Self)) {
        self.now += 1;
        self.deepest = self.deepest.max(self.now);
        walk(self);
        self.now -= 1;
    }
}

impl<'ast> Visit<'ast> for Depth {
    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.visit_expr(&expression.cond);
        self.inside(|depth| depth.visit_block(&expression.then_branch));
        match expression.else_branch.as_ref().map(|(_, branch)| &**branch) {
            // `else if` has the same depth as the `if` before it.
            Some(syn::Expr::If(next)) => self.visit_expr_if(next),
            Some(other) => self.inside(|depth| depth.visit_expr(other)),
            None => {}
        }
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        self.inside(|depth| visit::visit_expr_match(depth, expression));
    }

    fn visit_expr_for_loop(&mut self, expression: &'ast syn::ExprForLoop) {
        self.inside(|depth| visit::visit_expr_for_loop(depth, expression));
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.inside(|depth| visit::visit_expr_while(depth, expression));
    }

    fn visit_expr_loop(&mut self, expression: &'ast syn::ExprLoop) {
        self.inside(|depth| visit::visit_expr_loop(depth, expression));
    }

    fn visit_expr_closure(&mut self, expression: &'ast syn::ExprClosure) {
        self.inside(|depth| visit::visit_expr_closure(depth, expression));
    }

    // A function inside another function is counted by itself.
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

fn is_result(returned: &syn::Type) -> bool {
    matches!(returned, syn::Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result"))
}

/// The text of doc comments and doc attributes.
fn documentation(attributes: &[syn::Attribute]) -> String {
    let line = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}
