//! A plan that is replaced while requests are under way: each ends on the one it began with.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking_with, plan, pool, prefers};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_plan::{GatewayPlan, Revision};

/// A chat whose head the gateway has taken and whose body it waits for.
struct Begun {
    stream: TcpStream,
    body: String,
}

impl Begun {
    async fn chat(world: &World, body: &Value) -> Self {
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(world.authority()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = String::new();
        while !said.ends_with("\r\n\r\n") {
            let byte = stream.read_u8().await.unwrap();
            said.push(char::from(byte));
        }
        assert!(said.starts_with("HTTP/1.1 100 "), "{said}");
        Self { stream, body }
    }

    /// The whole answer, head and body.
    async fn end(mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn numbered(counter: u64, pools: [(&str, &Echo); 2]) -> GatewayPlan {
    let pools = pools.map(|(name, echo)| pool(name, &[echo]));
    GatewayPlan {
        revision: Revision { epoch: 0, counter },
        ..plan(pools.to_vec())
    }
}

#[tokio::test]
async fn a_request_ends_on_the_plan_it_began_with() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let first = numbered(1, [("small", &small), ("big", &big)]);
    let second = numbered(2, [("big", &big), ("small", &small)]);
    for (model, answers) in [("auto", "small"), ("big-model", "big")] {
        for stream in [false, true] {
            let world = World::start(first.clone(), prefers(0, 2)).await;
            let body = asking_with(model, "hi", &json!({"stream": stream}));
            let begun = Begun::chat(&world, &body).await;
            world.apply(second.clone(), prefers(0, 2));
            let answer = begun.end().await;
            let header = |name: &str| {
                let line = answer.lines().find(|line| line.starts_with(name));
                line.unwrap_or_else(|| panic!("{name} in {answer}"))[name.len()..].to_owned()
            };
            assert_eq!(header("x-weir-model: "), format!("{answers}-model"));
            let path = format!("/v1/decisions/{}", header("x-weir-decision: "));
            let row = world.get(&path).await.json().await;
            assert_eq!(row["plan"]["counter"], 1, "{model}, stream {stream}");
            assert_eq!(row["executed"]["pool"], answers, "{model}, stream {stream}");
        }
    }
}
