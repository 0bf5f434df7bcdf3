//! The public surface, as a file: whoever changes it sees it, and so does who reads the change.
//!
//! Every `pub` item of the crate's sources can be reached from outside (`unreachable_pub` and
//! `unnameable_types` are denied), so the list of all of them is the surface: signatures, fields,
//! variants, derives and implementations, without bodies, comments and what is private.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by a panic, as tests do"
)]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Block, Fields, File, ImplItem, Item, ItemImpl, TraitItem, Type, Visibility,
    parse_quote, punctuated::Punctuated,
};

mod snapshot;

#[test]
fn the_public_surface_is_the_one_in_the_file() {
    let modules = modules();
    let names: BTreeSet<String> = modules
        .iter()
        .flat_map(|(_, file)| &file.items)
        .filter_map(name_of_public)
        .collect();
    let mut text = String::new();
    for (path, file) in modules {
        let items: Vec<Item> = file
            .items
            .into_iter()
            .filter_map(|item| surface(item, &names))
            .collect();
        if items.is_empty() {
            continue;
        }
        let file = File {
            shebang: None,
            attrs: Vec::new(),
            items,
        };
        for part in ["// ", &path, "\n\n", &prettyplease::unparse(&file), "\n"] {
            text += part;
        }
    }
    assert!(
        text.contains("pub fn open(") && !text.contains("pub(crate)"),
        "{text}"
    );
    snapshot::same("public-api.txt", &text);
}

#[test]
fn what_is_shared_between_threads_can_be() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cheap<T: Clone>() {}
    shared::<certagent_credentials::Credentials>();
    shared::<certagent_credentials::Snapshot>();
    shared::<certagent_credentials::Subscription>();
    shared::<certagent_credentials::Error>();
    shared::<certagent_credentials::Health>();
    cheap::<certagent_credentials::Credentials>();
}

/// The modules, by path, those for tests left out.
fn modules() -> Vec<(String, File)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    load("crate", &root.join("lib.rs"), &root, &mut all);
    all
}

fn load(path: &str, source: &Path, children: &Path, all: &mut Vec<(String, File)>) {
    let file = syn::parse_file(&fs::read_to_string(source).unwrap()).unwrap();
    let names: Vec<String> = file
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && !for_tests(&module.attrs) => {
                Some(module.ident.to_string())
            }
            _ => None,
        })
        .collect();
    all.push((path.to_owned(), file));
    for name in names {
        let (flat, nested) = (children.join(format!("{name}.rs")), children.join(&name));
        let source: PathBuf = if flat.exists() {
            flat
        } else {
            nested.join("mod.rs")
        };
        load(&format!("{path}::{name}"), &source, &nested, all);
    }
}

fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|what| what.is_ident("test"))
    })
}

fn name_of_public(item: &Item) -> Option<String> {
    let (visibility, name) = match item {
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        _ => return None,
    };
    public(visibility).then(|| name.to_string())
}

fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// What of an item is seen from outside.
fn surface(item: Item, names: &BTreeSet<String>) -> Option<Item> {
    match item {
        Item::Use(mut item) => {
            item.attrs = kept(&item.attrs);
            public(&item.vis).then_some(Item::Use(item))
        }
        Item::Const(mut item) => {
            item.attrs = kept(&item.attrs);
            public(&item.vis).then_some(Item::Const(item))
        }
        Item::Type(mut item) => {
            item.attrs = kept(&item.attrs);
            public(&item.vis).then_some(Item::Type(item))
        }
        Item::Fn(mut item) => {
            item.attrs = kept(&item.attrs);
            *item.block = empty();
            public(&item.vis).then_some(Item::Fn(item))
        }
        Item::Struct(mut item) => {
            item.attrs = kept(&item.attrs);
            fields(&mut item.fields);
            public(&item.vis).then_some(Item::Struct(item))
        }
        Item::Enum(mut item) => {
            item.attrs = kept(&item.attrs);
            for variant in &mut item.variants {
                variant.attrs = kept(&variant.attrs);
                for field in &mut variant.fields {
                    field.attrs = kept(&field.attrs);
                }
            }
            public(&item.vis).then_some(Item::Enum(item))
        }
        Item::Trait(mut item) => {
            item.attrs = kept(&item.attrs);
            for member in &mut item.items {
                if let TraitItem::Fn(function) = member {
                    function.attrs = kept(&function.attrs);
                    function.default = function.default.as_ref().map(|_| empty());
                }
            }
            public(&item.vis).then_some(Item::Trait(item))
        }
        Item::Impl(item) => implementation(item, names).map(Item::Impl),
        _ => None,
    }
}

/// Public fields only; `..` stands for the rest as a field of its own.
fn fields(fields: &mut Fields) {
    let named = matches!(fields, Fields::Named(_));
    let list = match fields {
        Fields::Named(fields) => &mut fields.named,
        Fields::Unnamed(fields) => &mut fields.unnamed,
        Fields::Unit => return,
    };
    let hidden = list.iter().any(|field| !public(&field.vis));
    let mut shown: Punctuated<_, _> = std::mem::take(list)
        .into_iter()
        .filter(|field| public(&field.vis))
        .map(|mut field| {
            field.attrs = kept(&field.attrs);
            field
        })
        .collect();
    if hidden && named {
        shown.push(parse_quote!(private: ()));
    }
    *list = shown;
}

fn implementation(mut item: ItemImpl, names: &BTreeSet<String>) -> Option<ItemImpl> {
    let known = |path: &syn::Path| {
        path.segments
            .last()
            .is_some_and(|last| names.contains(&last.ident.to_string()))
    };
    let of = match &*item.self_ty {
        Type::Path(path) => known(&path.path),
        _ => false,
    };
    item.attrs = kept(&item.attrs);
    if let Some((_, of_trait, _)) = &item.trait_ {
        let any = of || known(of_trait);
        item.items
            .retain(|member| matches!(member, ImplItem::Type(_)));
        return any.then_some(item);
    }
    item.items.retain_mut(|member| match member {
        ImplItem::Fn(function) => {
            function.attrs = kept(&function.attrs);
            function.block = empty();
            public(&function.vis)
        }
        ImplItem::Const(constant) => public(&constant.vis),
        _ => false,
    });
    (of && !item.items.is_empty()).then_some(item)
}

/// Attributes that users notice.
fn kept(attributes: &[Attribute]) -> Vec<Attribute> {
    let noticed = ["cfg", "derive", "from", "must_use", "non_exhaustive"];
    let noticed =
        |attribute: &&Attribute| noticed.iter().any(|name| attribute.path().is_ident(name));
    attributes.iter().filter(noticed).cloned().collect()
}

fn empty() -> Block {
    parse_quote!({})
}
