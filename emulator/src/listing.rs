//! Lists: page by page, filtered, by name.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::errors::ApiError;
use crate::json::camel_case;
use crate::params::Params;

/// Items of a page when nobody says how many.
const DEFAULT_SIZE: usize = 100;

/// Items of a page at most.
const LARGEST_SIZE: usize = 1000;

/// Which part of a list is asked for.
#[derive(Debug)]
pub(crate) struct Page {
    size: usize,
    /// The name after which the page begins: the last one of the page before.
    after: Option<String>,
    filter: Filter,
}

impl Page {
    /// From the parameters that all lists have.
    pub(crate) fn from_params(params: &mut Params) -> Result<Self, ApiError> {
        let size = match params.number("pageSize")? {
            None | Some(0) => DEFAULT_SIZE,
            Some(size) => usize::try_from(size)
                .map_err(|_error| ApiError::invalid("page_size must not be negative."))?
                .min(LARGEST_SIZE),
        };
        let after = params.text("pageToken");
        if after
            .as_deref()
            .is_some_and(|token| !token.starts_with("projects/"))
        {
            return Err(ApiError::invalid("page_token is not one of this list."));
        }
        let order = params.text("orderBy");
        if !matches!(order.as_deref(), None | Some("name" | "name asc")) {
            return Err(ApiError::invalid(
                "order_by: lists are sorted by name; another order is not supported by this emulator.",
            ));
        }
        // Whatever there is can always be reached.
        params.flag("returnPartialSuccess")?;
        Ok(Self {
            size,
            after,
            filter: Filter::parse(params.text("filter").as_deref().unwrap_or_default())?,
        })
    }

    /// The answer with this page of `items`, which come sorted by their names.
    pub(crate) fn answer<T: Serialize>(
        &self,
        field: &str,
        items: impl Iterator<Item = (String, T)>,
    ) -> Result<Value, ApiError> {
        let mut page = Vec::new();
        let mut last = String::new();
        let mut more = false;
        for (name, item) in items {
            if self.after.as_ref().is_some_and(|after| name <= *after) {
                continue;
            }
            let item = serde_json::to_value(item)
                .map_err(|error| ApiError::internal("The answer", error))?;
            if !self.filter.matches(&item) {
                continue;
            }
            if page.len() == self.size {
                more = true;
                break;
            }
            page.push(item);
            last = name;
        }
        let mut answer = Map::new();
        if !page.is_empty() {
            answer.insert(field.to_owned(), Value::Array(page));
        }
        if more {
            answer.insert("nextPageToken".to_owned(), Value::String(last));
        }
        Ok(Value::Object(answer))
    }
}

/// The conjunction of comparisons like `type:SELF_SIGNED` and `labels.team="a b"`.
#[derive(Debug, PartialEq, Eq)]
struct Filter(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    path: Vec<String>,
    /// `=` wants the whole value, `:` a part of it.
    whole: bool,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || {
            ApiError::invalid(format!(
                "filter {text:?}: only comparisons like type:SELF_SIGNED or state=\"ENABLED\", with AND \
                 between them, are supported by this emulator."
            ))
        };
        let mut terms = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = rest.find([':', '=']).ok_or_else(bad)?;
            let (field, tail) = rest.split_at(end);
            let field = field.trim();
            let is_field = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if field.is_empty() || !field.chars().all(is_field) {
                return Err(bad());
            }
            let whole = tail.starts_with('=');
            let tail = tail[1..].trim_start();
            let (value, after) = match tail.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(bad)?,
                None => tail.split_once(char::is_whitespace).unwrap_or((tail, "")),
            };
            if value.is_empty() || value.contains(['(', ')']) {
                return Err(bad());
            }
            let mut steps = field.split('.').map(camel_case).collect::<Vec<_>>();
            if steps.first().is_some_and(|step| step == "labels") {
                steps = field.splitn(2, '.').map(str::to_owned).collect();
            }
            terms.push(Term {
                path: steps,
                whole,
                value: value.to_owned(),
            });
            let after = after.trim_start();
            rest = after.strip_prefix("AND ").unwrap_or(after).trim_start();
        }
        Ok(Self(terms))
    }

    fn matches(&self, item: &Value) -> bool {
        self.0.iter().all(|term| {
            let found = term
                .path
                .iter()
                .try_fold(item, |value, step| value.get(step));
            match found {
                Some(Value::String(text)) if term.whole => *text == term.value,
                Some(Value::String(text)) => text.contains(&term.value),
                Some(Value::Bool(flag)) => term.value == if *flag { "true" } else { "false" },
                Some(Value::Number(number)) => term.value == number.to_string(),
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(query: &str) -> Result<Page, ApiError> {
        let uri = format!("/x?{query}").parse().unwrap();
        let mut params = Params::parse(&uri)?;
        let page = Page::from_params(&mut params)?;
        params.finish().map(|()| page)
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let names: Vec<String> = (0..5).map(|n| format!("projects/{n}")).collect();
        let list = |query: &str| {
            let items = names.iter().map(|name| (name.clone(), json!(name)));
            page(query).unwrap().answer("items", items).unwrap()
        };
        assert_eq!(list(""), json!({ "items": names }));
        assert_eq!(
            list("pageSize=2"),
            json!({ "items": ["projects/0", "projects/1"], "nextPageToken": "projects/1" })
        );
        assert_eq!(
            list("pageSize=2&pageToken=projects/3"),
            json!({ "items": ["projects/4"] })
        );
        assert_eq!(list("pageToken=projects/9"), json!({}));
        assert_eq!(list("pageSize=5"), json!({ "items": names }));
    }

    #[test]
    fn a_filter_compares_fields() {
        let item = json!({
            "name": "projects/p/x",
            "keySpec": { "algorithm": "EC_P256_SHA256" },
            "labels": { "a_b": "c d" },
            "count": 3,
        });
        for (filter, fits) in [
            ("", true),
            ("name:p/x", true),
            ("name=p/x", false),
            ("name = projects/p/x", true),
            ("key_spec.algorithm:EC_P256_SHA256", true),
            ("keySpec.algorithm=\"EC_P256_SHA256\"", true),
            ("labels.a_b=\"c d\" AND count=3", true),
            ("labels.a_b:c count=4", false),
            ("nothing:x", false),
        ] {
            assert_eq!(
                Filter::parse(filter).unwrap().matches(&item),
                fits,
                "{filter}"
            );
        }
        for bad in [
            "name",
            "=x",
            "a b:c",
            "name:",
            "name=\"x",
            "NOT (name:x)",
            "(a:b)",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_of_lists_are_checked() {
        for bad in [
            "pageSize=-1",
            "pageSize=x",
            "pageToken=x",
            "orderBy=createTime",
            "filter=x",
            "pagesize=1",
        ] {
            assert!(page(bad).is_err(), "{bad}");
        }
        assert_eq!(page("pageSize=0&orderBy=name").unwrap().size, DEFAULT_SIZE);
        assert_eq!(page("pageSize=5000").unwrap().size, LARGEST_SIZE);
    }
}
