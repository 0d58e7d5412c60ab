use super::*;

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: CURRENT
clusters:
- name: east
  cluster: { server: "http://127.0.0.1:1" }
- name: gone
  cluster: {}
contexts:
- name: east
  context: { cluster: east, user: me, namespace: shop }
- name: west
  context: { cluster: gone, user: me }
users:
- name: me
  user: {}
"#;

struct Site(tempfile::TempDir);

impl Site {
    fn new(current: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config"), KUBECONFIG.replace("CURRENT", current)).unwrap();
        Self(dir)
    }

    fn options(&self, context: Option<&str>) -> ConnectOptions {
        ConnectOptions {
            access: Access::File(self.0.path().join("config"), context.map(ToOwned::to_owned)),
            user_agent: "landbridge-gateway/0".to_owned(),
        }
    }

    async fn refused(&self, context: Option<&str>) -> String {
        Cluster::connect(&self.options(context)).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_context_names_its_server_and_its_namespace() {
    let site = Site::new("east");
    for context in [None, Some("east")] {
        let cluster = Cluster::connect(&site.options(context)).await.unwrap();
        assert_eq!((cluster.server(), cluster.namespace()), ("http://127.0.0.1:1", "shop"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said_with_what_there_is() {
    let site = Site::new("east");
    let error = site.refused(Some("north")).await;
    assert!(error.contains(r#"has no context "north"; it has "east", "west""#), "{error}");
    let error = site.refused(Some("west")).await;
    assert!(error.contains("cluster url is missing"), "{error}");
    let error = Site::new("\"\"").refused(None).await;
    assert!(error.contains("has no c"), "{error}");
    let missing = ConnectOptions { access: Access::File("/nowhere/config".into(), None), ..site.options(None) };
    let error = Cluster::connect(&missing).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/config") && error.contains("set the right file"), "{error}");
}

#[tokio::test]
async fn an_api_server_that_is_down_is_told_by_the_probe_alone() {
    let cluster = Cluster::connect(&Site::new("east").options(None)).await.unwrap();
    let error = cluster.probe().await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1 cannot be reached"), "{error}");
}
