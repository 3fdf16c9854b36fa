//! Pages: what browsers load, held in the program.
//!
//! Shape: paths in, files out, with the hash of the whole as their tag. A page is the frame that
//! all have in common, with its own part within.

use std::{borrow::Cow, sync::LazyLock};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::problem::Problem;

/// A file that the program holds.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: Cow<'static, [u8]>,
}

/// A page.
struct Page {
    path: &'static str,
    title: &'static str,
    /// Its style and its script.
    style: &'static str,
    script: &'static str,
    has_chart: bool,
    main: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Charts: Apache ECharts, as its package brings it.
const CHARTS: &str = "vendor/echarts.common.min.js";

const FRAME: &str = include_str!("web/frame.html");

macro_rules! page {
    ($path:literal, $name:literal, $title:literal, $style:literal, $has_chart:literal) => {
        Page {
            path: $path,
            title: $title,
            style: $style,
            script: concat!($name, ".js"),
            has_chart: $has_chart,
            main: include_str!(concat!("web/", $name, ".html")),
        }
    };
}

const PAGES: [Page; 6] = [
    page!("/", "journal", "Журнал", "journal", false),
    page!("/boards/groups", "groups", "Посещаемость по группам", "pages", true),
    page!("/boards/teachers", "teachers", "Посещаемость у преподавателей", "pages", true),
    page!("/tail", "tail", "Лента записей", "pages", false),
    page!("/people", "people", "Люди", "pages", false),
    page!("/operations", "operations", "Состояние системы", "pages", false),
];

impl Page {
    fn html(&self) -> String {
        let Page { path, title, style, script, has_chart, main } = self;
        let chart = format!("  <script src=\"/assets/{CHARTS}\" defer></script>\n");
        let own = format!("  <script src=\"/assets/{script}\" type=\"module\"></script>\n");
        let scripts = if *has_chart { chart + &own } else { own };
        let link = format!("<li><a href=\"{path}\"");
        FRAME
            .replace("{title}", title)
            .replace("{style}", style)
            .replace("{scripts}", &scripts)
            .replace(&link, &format!("{link} aria-current=\"page\""))
            .replace("{main}", main)
    }
}

macro_rules! asset {
    ($kind:expr, $file:literal) => {
        Asset {
            path: concat!("/assets/", $file),
            kind: $kind,
            bytes: Cow::Borrowed(include_bytes!(concat!("web/", $file))),
        }
    };
}

/// Everything there is.
static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let pages = PAGES.iter().map(|page| Asset {
        path: page.path,
        kind: HTML,
        bytes: Cow::Owned(page.html().into_bytes()),
    });
    let files = [
        asset!(SCRIPT, "board.js"),
        asset!(SCRIPT, "cells.js"),
        asset!(SCRIPT, "chart.js"),
        asset!(SCRIPT, "common.js"),
        asset!(SCRIPT, "dom.js"),
        asset!(SCRIPT, "format.js"),
        asset!(SCRIPT, "grid.js"),
        asset!(SCRIPT, "groups.js"),
        asset!(SCRIPT, "header.js"),
        asset!(SCRIPT, "journal.js"),
        asset!(SCRIPT, "menu.js"),
        asset!(SCRIPT, "operations.js"),
        asset!(SCRIPT, "people.js"),
        asset!(SCRIPT, "picks.js"),
        asset!(SCRIPT, "tail.js"),
        asset!(SCRIPT, "teachers.js"),
        asset!(STYLE, "journal.css"),
        asset!(STYLE, "pages.css"),
        asset!(STYLE, "style.css"),
        asset!("image/svg+xml", "icon.svg"),
        asset!(SCRIPT, "vendor/echarts.common.min.js"),
    ];
    pages.chain(files).collect()
});

/// The routes of all pages.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        routes.route(
            asset.path,
            get(move |headers: HeaderMap| async move { answer(asset, &headers) }),
        )
    })
}

/// A file, or that the browser has it already.
fn answer(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(&asset.bytes));
    let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let told = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if has.is_some_and(|has| has.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    (told, [(header::CONTENT_TYPE, asset.kind)], asset.bytes.as_ref()).into_response()
}

/// What is asked for is no page and no part of the API.
pub async fn nothing() -> Problem {
    Problem::not_found("there is nothing here; the API is described at /v1/openapi.json")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_served_and_pages_name_only_what_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/web");
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let files = names(&folder).len() - 1 + names(&folder.join("vendor")).len() - 1;
        assert_eq!(ASSETS.len(), files - 1, "all but the frame, others' folder and its licence");
        let is_served = |path: &str| ASSETS.iter().any(|asset| asset.path == path);
        for asset in ASSETS.iter().filter(|asset| asset.kind == HTML) {
            let text = str::from_utf8(&asset.bytes).unwrap();
            assert!(!text.contains("{main}") && text.matches("aria-current").count() == 1);
            for attribute in ["src=\"", "href=\""] {
                for path in text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next())
                {
                    assert!(path.starts_with('#') || is_served(path), "{}: {path}", asset.path);
                }
            }
        }
    }
}
