use crate::{
    node::{Fake, model},
    start,
};
use jarvis_balancer::{NodeSpec, NodeState, Transport};

/// An address on which nobody listens.
fn nobody() -> Transport {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Transport::http(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}

#[tokio::test]
async fn models_are_the_union_and_other_weights_of_one_name_are_left_out() {
    let one = Fake {
        models: vec![model("a:latest", "1"), model("b:latest", "2")],
        ..Fake::new(vec![])
    };
    let two = Fake {
        models: vec![model("b:latest", "2"), model("a:latest", "other")],
        ..Fake::new(vec![])
    };
    let started = start(vec![one.spec("one"), two.spec("two")]);
    let catalog = started.balancer.catalog().await;
    let listed: Vec<_> = catalog
        .models
        .iter()
        .map(|model| {
            (
                model.name.as_str(),
                model.digest.as_str(),
                model.nodes.join(" "),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("a:latest", "1", "one".to_owned()),
            ("b:latest", "2", "one two".to_owned())
        ]
    );
    assert!(catalog.model("b").is_some() && catalog.model("c").is_none());
}

#[tokio::test]
async fn a_node_that_is_down_is_said_to_be_unless_it_was_only_looked_for() {
    let down = NodeSpec {
        name: "down".into(),
        transport: nobody(),
        slots: None,
        weight: 1,
        optional: false,
    };
    let absent = NodeSpec {
        name: "absent".into(),
        optional: true,
        ..down.clone()
    };
    let started = start(vec![Fake::new(vec![]).spec("up"), down, absent]);
    let catalog = started.balancer.catalog().await;
    assert_eq!(
        catalog.nodes[0],
        NodeState {
            name: "up".into(),
            ready: true,
            error: None
        }
    );
    assert_eq!(catalog.nodes.len(), 2, "{:?}", catalog.nodes);
    let state = &catalog.nodes[1];
    assert!(
        !state.ready
            && state
                .error
                .as_ref()
                .is_some_and(|error| error.contains("refused")),
        "{state:?}"
    );
}

#[tokio::test]
async fn a_list_that_is_no_list_is_a_node_that_is_down() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = Transport::http(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let started = start(vec![NodeSpec {
        name: "odd".into(),
        transport,
        slots: None,
        weight: 1,
        optional: false,
    }]);
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(
            &mut socket,
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ht>",
        )
        .await
        .unwrap();
        socket
    };
    let (_socket, catalog) = tokio::join!(serve, started.balancer.catalog());
    assert!(
        catalog.nodes[0]
            .error
            .as_ref()
            .unwrap()
            .contains("not of the protocol"),
        "{:?}",
        catalog.nodes
    );
}
