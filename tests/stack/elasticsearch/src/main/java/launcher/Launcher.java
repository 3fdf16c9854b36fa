package launcher;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One node over HTTP on 127.0.0.1, in this process: LIB_AND_MODULES FOLDER HTTP_PORT TRANSPORT_PORT [NAME=VALUE ...]
 */
public final class Launcher {
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]).toAbsolutePath();
        Path folder = Path.of(arguments[1]).toAbsolutePath();
        Path config = Files.createDirectories(folder.resolve("config"));
        Path data = Files.createDirectories(folder.resolve("data"));
        Path logs = Files.createDirectories(folder.resolve("logs"));
        System.setProperty("es.path.home", home.toString());
        System.setProperty("es.logs.base_path", logs.toString());

        Settings.Builder settings = Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", data.toString())
            .put("path.logs", logs.toString())
            .put("cluster.name", "tests")
            .put("node.name", "node")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", arguments[2])
            .put("transport.port", arguments[3])
            .put("action.auto_create_index", false)
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        for (int i = 4; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }

        // Without these two no logger has an implementation.
        LogConfigurator.configureESLogging();
        LogConfigurator.configureWithoutConfig(Settings.builder()
            .put("logger.level", System.getProperty("es.log", "WARN"))
            // The native libraries are not published: the node goes without them and would say so at length.
            .put("logger.org.elasticsearch.nativeaccess", "ERROR")
            .build());

        Environment environment = InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), config, () -> "node");
        PluginsLoader plugins = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(environment.modulesDir()), Set.of(), Map.of(), false);
        Node node = new Node(environment, plugins);
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.prepareForClose();
                node.close();
                node.awaitClose(10, TimeUnit.SECONDS);
            } catch (Exception error) {
                error.printStackTrace();
            } finally {
                closed.countDown();
            }
        }));
        node.start();
        System.out.println("READY");
        closed.await();
    }
}
