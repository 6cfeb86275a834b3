//! The web app: files embedded in the binary, the page itself for every route of the app.

use super::Running;
use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use serde_json::json;

/// One file of the app, with the compressed forms made when it was built.
struct File {
    /// Below the root, without a leading slash.
    path: &'static str,
    /// Quoted, of the plain form.
    etag: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

/// Everything from this server alone; styles are set from script, never inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const SECURITY_HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Shown when the program was built before the web app.
const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Jarvis</title>\
    <h1>The web app is not part of this program</h1>\
    <p>Jarvis was built without it. Run <code>make build</code> in the source folder, which builds the web app first \
    and then the program that carries it, and start that program. The interface for programs under \
    <code>/api/v1</code> works all the same.</p></html>";

/// Starts the role on its own.
pub(super) fn start() -> Running {
    Running::new(router().route("/health", get(super::health)))
}

/// Answers every path below the root that is not another's. Programs look under `/api` and `/v1`: what they do not find there
/// must not look like an answer.
pub(super) fn router() -> Router {
    [
        "/api",
        "/api/",
        "/api/{*rest}",
        "/v1",
        "/v1/",
        "/v1/{*rest}",
    ]
    .into_iter()
    .fold(Router::new(), |router, path| {
        router.route(path, any(no_interface))
    })
    .fallback(get(serve).head(serve))
}

async fn no_interface() -> Response {
    let body = json!({
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "not_found",
        "detail": "there is no such interface at this address",
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (StatusCode::NOT_FOUND, kind, Json(body)).into_response()
}

async fn serve(request: Request<Body>) -> Response {
    let head = request.method() == Method::HEAD;
    let mut response = answer(request.uri(), request.headers());
    for (name, value) in SECURITY_HEADERS {
        response
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

fn answer(uri: &Uri, headers: &HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if let Some(file) = find(path) {
        return file.answer(headers);
    }
    // A route of the app has no extension; a file that is not there must not look like one.
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains('.') && path != "index.html" {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    }
    match find("index.html") {
        Some(page) => page.answer(headers),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            NOT_BUILT,
        )
            .into_response(),
    }
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let common = [
            (header::ETAG, self.etag),
            (header::CACHE_CONTROL, self.caching()),
            (header::VARY, "accept-encoding"),
        ];
        if matches(headers, self.etag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let (encoding, bytes) = self.form(headers);
        let mut response = (
            common,
            [(header::CONTENT_TYPE, content_type(self.path))],
            bytes,
        )
            .into_response();
        if let Some(encoding) = encoding {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }

    /// Names under `assets` carry a hash of their content and never change.
    fn caching(&self) -> &'static str {
        if self.path.starts_with("assets/") {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        }
    }

    /// The smallest form that the client takes.
    fn form(&self, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
        if let Some(brotli) = self.brotli.filter(|_| accepts(headers, "br")) {
            return (Some("br"), brotli);
        }
        match self.gzip.filter(|_| accepts(headers, "gzip")) {
            Some(gzip) => (Some("gzip"), gzip),
            None => (None, self.plain),
        }
    }
}

fn matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*")
}

/// Whether `Accept-Encoding` names `coding` with a quality other than zero.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            named && !refused
        })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    static SCRIPT: File = File {
        path: "assets/app-1a2b.js",
        etag: "\"77\"",
        plain: b"plain",
        gzip: Some(b"gz"),
        brotli: Some(b"br"),
    };

    async fn body(response: Response) -> Vec<u8> {
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[tokio::test]
    async fn the_best_accepted_form_is_sent() {
        for (accepted, encoding, bytes) in [
            ("gzip, br", Some("br"), &b"br"[..]),
            ("gzip;q=1.0, br;q=0", Some("gzip"), b"gz"),
            ("identity", None, b"plain"),
        ] {
            let response = SCRIPT.answer(&headers(header::ACCEPT_ENCODING, accepted));
            let sent = response.headers().get(header::CONTENT_ENCODING);
            assert_eq!(sent.map(|value| value.to_str().unwrap()), encoding);
            assert_eq!(response.headers()[header::VARY], "accept-encoding");
            assert_eq!(body(response).await, bytes);
        }
    }

    #[tokio::test]
    async fn what_the_browser_has_is_not_sent_again() {
        let response = SCRIPT.answer(&headers(header::IF_NONE_MATCH, "\"1\", W/\"77\""));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert!(body(response).await.is_empty());
        let changed = SCRIPT.answer(&headers(header::IF_NONE_MATCH, "\"78\""));
        assert_eq!(changed.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn hashed_files_are_kept_and_the_page_is_asked_for() {
        assert!(SCRIPT.caching().contains("immutable"));
        let page = File {
            path: "index.html",
            ..SCRIPT
        };
        assert_eq!(page.caching(), "no-cache");
    }

    #[tokio::test]
    async fn a_missing_file_is_not_the_page() {
        let response = answer(&Uri::from_static("/assets/gone.js"), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_a_program_does_not_find_is_not_the_page() {
        for path in [
            "/v1/models",
            "/v1/chat/completions",
            "/v1/",
            "/api/tags",
            "/api",
        ] {
            for method in [Method::GET, Method::POST] {
                let mut request = Request::new(Body::empty());
                *request.uri_mut() = Uri::from_static(path);
                *request.method_mut() = method;
                let response = router().oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
                let kind = &response.headers()[header::CONTENT_TYPE];
                assert_eq!(kind, "application/problem+json");
                let body: serde_json::Value =
                    serde_json::from_slice(&body(response).await).unwrap();
                assert_eq!(body["code"], "not_found");
            }
        }
    }

    #[tokio::test]
    async fn every_answer_carries_the_security_headers() {
        for path in ["/", "/c/0198", "/assets/gone.js"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = serve(request).await;
            for (name, value) in SECURITY_HEADERS {
                assert_eq!(response.headers()[*name], value, "{path}");
            }
        }
    }
}
