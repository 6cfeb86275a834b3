use axum::body::Body;
use http::StatusCode;
use jarvis_engine::embedded::{self, Progress};
use serde_json::{Value, json};

use crate::support::{
    CHAT, EMBEDDING, Server, capital, catalog, content, models_dir, own_store, read, user,
};

fn own_server(store: &tempfile::TempDir) -> Server {
    let path = store.path().to_owned();
    Server::start(move |options| {
        options.models_dir = path;
        options.parallel = 1;
        options.prefix_reuse = false;
    })
}

fn blob() -> std::path::PathBuf {
    let models = models_dir();
    catalog(&models).blob_path(embedded::CHAT.weights.sha256)
}

#[tokio::test]
async fn what_is_there_is_listed_and_described() {
    let server = Server::start(|_| {});
    assert_eq!(
        server.send("HEAD", "/", Body::empty()).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        read(server.send("GET", "/", Body::empty()).await).await.1,
        "Ollama is running"
    );
    assert!(server.get("/api/version").await["version"].is_string());
    let tags = server.get("/api/tags").await;
    let model = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["name"] == CHAT)
        .unwrap();
    assert_eq!(model["digest"], embedded::CHAT.weights.sha256);
    assert_eq!(model["details"]["quantization_level"], "Q4_1");
    assert_eq!(model["details"]["parameter_size"], "134.52M");
    assert_eq!(model["jarvis"]["demonstration"], true);
    let (_, shown) = server.call("/api/show", &json!({"model": CHAT})).await;
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert!(
        shown["template"].as_str().unwrap().contains("im_start"),
        "{shown}"
    );
    assert_eq!(shown["capabilities"], json!(["completion"]));
    let (_, shown) = server.call("/api/show", &json!({"name": EMBEDDING})).await;
    assert_eq!(shown["capabilities"], json!(["embedding"]));
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_on_request() {
    let server = Server::start(|_| {});
    assert_eq!(server.get("/api/ps").await["models"], json!([]));
    let (_, loaded) = server
        .call(
            "/api/chat",
            &json!({"model": CHAT, "messages": [], "keep_alive": "10m"}),
        )
        .await;
    assert_eq!(loaded["done_reason"], "load");
    server
        .call(
            "/api/embed",
            &json!({"model": EMBEDDING, "input": [], "keep_alive": -1}),
        )
        .await;
    let running = server.get("/api/ps").await;
    let names: Vec<&Value> = running["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["name"])
        .collect();
    assert_eq!(names, [EMBEDDING, CHAT]);
    assert_eq!(running["models"][1]["context_length"], 1024);
    assert!(running["models"][1]["size"].as_u64().unwrap() > 98_000_000);
    let (_, unloaded) = server
        .call("/api/generate", &json!({"model": CHAT, "keep_alive": 0}))
        .await;
    assert_eq!(unloaded["done_reason"], "unload");
    server
        .call(
            "/api/embed",
            &json!({"model": EMBEDDING, "input": [], "keep_alive": 0}),
        )
        .await;
    // The thread notices at once; it is only not known how soon it runs.
    while server.get("/api/ps").await["models"] != json!([]) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_larger_window_is_made_when_it_is_asked_for() {
    let server = Server::start(|options| options.num_ctx = 128);
    let long = format!("{} What is the capital of France?", "word ".repeat(300));
    let small = server.chat(user(&long), json!({})).await;
    assert_eq!(small["prompt_eval_count"], 96);
    let large = server
        .chat(user(&long), json!({"options": {"num_ctx": 512}}))
        .await;
    assert!(
        large["prompt_eval_count"].as_u64().unwrap() > 300,
        "{large}"
    );
    assert_eq!(
        server.get("/api/ps").await["models"][0]["context_length"],
        512
    );
}

#[tokio::test]
async fn a_gguf_on_disk_becomes_a_model() {
    let store = own_store();
    let server = own_server(&store);
    let modelfile = format!(
        "FROM {}\nSYSTEM \"You are a pirate.\"\nPARAMETER num_predict 3\nPARAMETER temperature 0",
        blob().display()
    );
    let (status, body) = server
        .call(
            "/api/create",
            &json!({"model": "pirate", "modelfile": modelfile, "stream": false}),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["status"], "success");
    let (_, answer) = server
        .call(
            "/api/chat",
            &json!({"model": "pirate", "messages": user("Hi"), "stream": false}),
        )
        .await;
    assert_eq!(
        answer["eval_count"], 3,
        "the model's own options hold: {answer}"
    );
    let (_, shown) = server.call("/api/show", &json!({"model": "pirate"})).await;
    assert_eq!(shown["system"], "You are a pirate.");
    assert_eq!(
        server
            .call(
                "/api/copy",
                &json!({"source": "pirate", "destination": "me/corsair:v2"})
            )
            .await
            .0,
        StatusCode::OK
    );
    assert_eq!(
        read(
            server
                .send(
                    "DELETE",
                    "/api/delete",
                    json!({"model": "pirate"}).to_string()
                )
                .await
        )
        .await
        .0,
        StatusCode::OK
    );
    let (status, error) = server.call("/api/show", &json!({"model": "pirate"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        error["error"].as_str().unwrap().contains("me/corsair:v2"),
        "says which exist: {error}"
    );
    let (_, answer) = server
        .call(
            "/api/chat",
            &json!({"model": "me/corsair:v2", "messages": user("Hi"), "stream": false}),
        )
        .await;
    assert_eq!(
        answer["eval_count"], 3,
        "the copy has the weights still: {answer}"
    );
}

#[tokio::test]
async fn a_model_keeps_its_licence_and_its_first_turns() {
    let store = own_store();
    let server = own_server(&store);
    let turns = json!([
        {"role": "user", "content": "Remember: the password is \"swordfish\"."},
        {"role": "assistant", "content": "I will\nremember."},
    ]);
    let request = json!({"model": "keeper", "from": CHAT, "system": "Be brief.", "messages": turns,
        "license": ["MIT", "and more"], "parameters": {"temperature": 0, "num_predict": 2}, "stream": false});
    let (status, body) = server.call("/api/create", &request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, shown) = server.call("/api/show", &json!({"model": "keeper"})).await;
    assert_eq!(shown["license"], "MIT\nand more");
    assert_eq!(shown["messages"], turns);
    // What is shown makes the same model again.
    let again = json!({"model": "again", "modelfile": shown["modelfile"], "stream": false});
    let (status, body) = server.call("/api/create", &again).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, second) = server.call("/api/show", &json!({"model": "again"})).await;
    for field in ["license", "messages", "system", "template", "parameters"] {
        assert_eq!(second[field], shown[field], "{field}");
    }

    let count = async |path: &str, body: Value| {
        let (status, answer) = server.call(path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["prompt_eval_count"].as_u64().unwrap()
    };
    let options = json!({"temperature": 0, "num_predict": 2});
    let spelled = json!([{"role": "system", "content": "Be brief."}, turns[0], turns[1], {"role": "user", "content": "Hi"}]);
    let whole = count(
        "/api/chat",
        json!({"model": CHAT, "messages": spelled, "options": options, "stream": false}),
    )
    .await;
    let own = count(
        "/api/chat",
        json!({"model": "keeper", "messages": user("Hi"), "stream": false}),
    )
    .await;
    assert_eq!(own, whole);
    let own = count(
        "/api/generate",
        json!({"model": "keeper", "prompt": "Hi", "stream": false}),
    )
    .await;
    assert_eq!(own, whole);
    let (_, answer) = server
        .call(
            "/v1/chat/completions",
            &json!({"model": "keeper", "messages": user("Hi")}),
        )
        .await;
    assert_eq!(answer["usage"]["prompt_tokens"], whole, "{answer}");
}

#[tokio::test]
async fn an_uploaded_blob_becomes_a_model() {
    let store = tempfile::tempdir().unwrap();
    let server = own_server(&store);
    let digest = format!("sha256:{}", embedded::CHAT.weights.sha256);
    let path = format!("/api/blobs/{digest}");
    assert_eq!(
        server.send("HEAD", &path, Body::empty()).await.status(),
        StatusCode::NOT_FOUND
    );
    let (status, error) = read(server.send("POST", &path, "something else").await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
    let bytes = std::fs::read(blob()).unwrap();
    assert_eq!(
        server.send("POST", &path, bytes).await.status(),
        StatusCode::CREATED
    );
    assert_eq!(
        server.send("HEAD", &path, Body::empty()).await.status(),
        StatusCode::OK
    );
    let (status, body) = read(
        server
            .post(
                "/api/create",
                &json!({"model": "mine", "files": {"m.gguf": digest}}),
            )
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        body.as_str()
            .unwrap()
            .ends_with("{\"status\":\"success\"}\n"),
        "{body}"
    );
    let (_, answer) = server.call("/api/chat", &json!({"model": "mine", "messages": capital("France"), "stream": false, "options": {"temperature": 0}})).await;
    assert!(content(&answer).contains("Paris"), "{answer}");
    let left = std::fs::read_dir(store.path().join("blobs"))
        .unwrap()
        .count();
    assert_eq!(left, 1, "nothing is left of the failed upload");
}

#[tokio::test]
async fn files_that_are_no_models_are_refused_with_their_reason() {
    let store = own_store();
    let server = own_server(&store);
    let whole = std::fs::read(blob()).unwrap();
    let other = store.path().join("text.gguf");
    std::fs::write(&other, "hello").unwrap();
    let cut = store.path().join("cut.gguf");
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let missing = store.path().join("missing.gguf");
    for (file, reason) in [
        (&other, "not a GGUF file"),
        (&cut, "truncated"),
        (&missing, "No such file"),
    ] {
        let (status, error) = server
            .call("/api/create", &json!({"model": "bad", "from": file}))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error["error"].as_str().unwrap().contains(reason), "{error}");
    }
    for (request, reason) in [
        (json!({"model": "bad"}), "neither 'from' or 'files'"),
        (json!({"model": "bad", "from": "nobody"}), "not found"),
        (
            json!({"model": "../bad", "from": CHAT}),
            "invalid model name",
        ),
        (
            json!({"model": "bad", "from": CHAT, "template": "{{ .Prompt }}"}),
            "Jinja",
        ),
        (
            json!({"model": "bad", "from": CHAT, "parameters": {"top_k": "many"}}),
            "parameters.top_k: ",
        ),
        (
            json!({"model": "bad", "from": CHAT, "parameters": {"temperature": "hot"}}),
            "parameters.temperature: invalid type: string \"hot\"",
        ),
        (
            json!({"model": "bad", "from": CHAT, "parameters": {"temperature": -1}}),
            "invalid temperature -1",
        ),
        (
            json!({"model": "bad", "from": CHAT, "parameters": {"num_ctx": -5}}),
            "invalid num_ctx -5",
        ),
        (
            json!({"model": "bad", "modelfile": format!("FROM {CHAT}\nPARAMETER temperature hot")}),
            "parameters.temperature: ",
        ),
        (
            json!({"model": "bad", "from": CHAT, "adapters": {"a": format!("sha256:{}", "0".repeat(64))}}),
            "does not support adapters",
        ),
        (
            json!({"model": "bad", "from": CHAT, "quantize": "q4_0"}),
            "does not support quantization",
        ),
        (
            json!({"model": "bad", "from": CHAT, "messages": [{"role": "tool", "content": "x"}]}),
            "messages: role \"tool\"",
        ),
        (
            json!({"model": "bad", "files": {"a": "sha256:12"}}),
            "invalid digest",
        ),
        (
            json!({"model": "bad", "files": {"a": format!("sha256:{}", "0".repeat(64))}}),
            "not found",
        ),
    ] {
        let (status, error) = server.call("/api/create", &request).await;
        assert!(status.is_client_error(), "{status} {error}");
        assert!(error["error"].as_str().unwrap().contains(reason), "{error}");
    }
    assert_eq!(
        server.call("/api/show", &json!({"model": "bad"})).await.0,
        StatusCode::NOT_FOUND
    );
}

/// llama.cpp would end the process at the first text.
#[tokio::test]
async fn weights_without_a_vocabulary_are_refused_however_they_come() {
    let store = tempfile::tempdir().unwrap();
    let server = own_server(&store);
    let bytes = jarvis_testkit::gguf_without_vocabulary();
    let file = store.path().join("weights.gguf");
    std::fs::write(&file, &bytes).unwrap();
    let digest = catalog(store.path()).add_blob(&bytes[..], None).unwrap();
    let digest = format!("sha256:{digest}");
    std::fs::remove_file(catalog(store.path()).blob_path(&digest[7..])).unwrap();
    let uploaded = server
        .send("POST", &format!("/api/blobs/{digest}"), bytes)
        .await;
    assert_eq!(uploaded.status(), StatusCode::CREATED);
    for source in [
        json!({"from": file}),
        json!({"modelfile": format!("FROM {}", file.display())}),
        json!({"files": {"weights.gguf": digest}}),
        json!({"from": file, "stream": false}),
    ] {
        let mut request = source.clone();
        request["model"] = "bad".into();
        let (status, error) = server.call("/api/create", &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{source}: {error}");
        let said = error["error"].as_str().unwrap();
        assert!(
            said.ends_with("no vocabulary in the file: it is no language model"),
            "{source}: {said}"
        );
    }
    let (status, _) = server.call("/api/show", &json!({"model": "bad"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/api/tags").await["models"], json!([]));
}

#[tokio::test]
async fn weights_that_have_gone_missing_are_named() {
    let store = own_store();
    let server = own_server(&store);
    std::fs::remove_file(catalog(store.path()).blob_path(embedded::CHAT.weights.sha256)).unwrap();
    let (status, error) = server
        .call("/api/chat", &json!({"model": CHAT, "messages": user("Hi")}))
        .await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .contains(embedded::CHAT.weights.sha256),
        "{error}"
    );
    let body = json!({"model": CHAT}).to_string();
    let removed = server.send("DELETE", "/api/delete", body).await;
    assert_eq!(
        removed.status(),
        StatusCode::OK,
        "there is nothing else to remove"
    );
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let mut seen = Vec::new();
    embedded::fetch(&catalog(&models_dir()), |progress| seen.push(progress)).unwrap();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|progress| matches!(progress, Progress::Present(_))),
        "{seen:?}"
    );
}

#[tokio::test]
async fn weights_that_an_unreadable_model_may_have_stay() {
    let store = own_store();
    let catalog = catalog(store.path());
    let weights = catalog.blob_path(&catalog.get(CHAT).unwrap().digest);
    std::fs::write(store.path().join("manifests/odd.json"), "{").unwrap();
    catalog.copy(CHAT, "second").unwrap();
    catalog.delete(CHAT).unwrap();
    catalog.delete("second").unwrap();
    assert!(weights.exists());
    let error = catalog
        .import_gguf(
            "pipe",
            std::path::Path::new("/dev/null"),
            jarvis_engine::Import::default(),
        )
        .unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

/// Replaces a file: the common store has a link to it.
fn replace(path: &std::path::Path, text: &str) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_damaged_manifest_is_named_beside_the_whole_ones_and_can_be_removed() {
    let store = own_store();
    let catalog = catalog(store.path());
    let manifests = store.path().join("manifests");
    let file = manifests.join("smollm2%3a135m.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    catalog.copy(CHAT, "second").unwrap();
    for (harmed, reason) in [
        (&whole[..whole.len() / 2], "EOF"),
        ("", "EOF"),
        ("[]", "invalid length"),
        (&whole.replace("b179", "B179"), "no SHA-256"),
        (&whole.replace("135m", "136m"), "it describes smollm2:136m"),
    ] {
        replace(&file, harmed);
        let survey = catalog.survey().unwrap();
        let [damaged] = &survey.damaged[..] else {
            panic!("{survey:?}")
        };
        assert_eq!((damaged.name.as_str(), &damaged.path), (CHAT, &file));
        assert!(damaged.reason.contains(reason), "{damaged}");
    }
    std::fs::write(manifests.join("odd name.json"), "{").unwrap();

    let server = own_server(&store);
    let tags = server.get("/api/tags").await;
    let names: Vec<_> = tags["models"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2, "the whole ones are listed still: {tags}");
    let (status, error) = server.call("/api/show", &json!({"model": CHAT})).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let said = error["error"].as_str().unwrap();
    assert!(
        said.contains(file.to_str().unwrap()) && said.contains("jarvis model remove smollm2:135m"),
        "{said}"
    );
    for name in [CHAT, "odd name"] {
        let body = json!({"model": name}).to_string();
        let response = server.send("DELETE", "/api/delete", body).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
    }
    assert_eq!(catalog.survey().unwrap().damaged, []);
    let (status, _) = server.call("/api/show", &json!({"model": CHAT})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, answer) = server
        .call(
            "/api/chat",
            &json!({"model": "second", "messages": user("Hi"), "stream": false, "options": {"num_predict": 2}}),
        )
        .await;
    assert_eq!(answer["done"], true, "its weights have stayed: {answer}");
}
