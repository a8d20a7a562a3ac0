package f1hbase;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Queue;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.filter.FilterList;
import org.apache.hadoop.hbase.filter.FirstKeyOnlyFilter;
import org.apache.hadoop.hbase.filter.KeyOnlyFilter;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.api.java.function.FlatMapFunction;
import org.apache.spark.util.TaskCompletionListener;

/**
 * Reads ranges of rows in executors, from region servers or from the files of a snapshot, and hands them on as bytes,
 * which Spark gives to Python as they are: no row of it is a row of Spark's.
 *
 * <p>A task is a number of ranges, one after the other. Of each: its number (4 bytes); what goes along with it; the
 * table, the snapshot (empty for the table itself), the folder that this is restored to, and the family (as of
 * `DataOutput.writeUTF`); whether only keys are wanted (1 byte); the columns of whole numbers (4 bytes: how many, then
 * each qualifier); the first key, and the one that it ends before. What goes along, qualifiers and keys have their
 * lengths (4 bytes) before them. Big-endian.
 *
 * <p>A message to Python is the number of its range (4 bytes), its kind (4 bytes) and its content: what goes along, once
 * and first of all; rows as {@link Answers} has them; or, where columns of whole numbers are named and rows have no
 * others, as {@link Blocks} has them.
 */
public final class Scans implements FlatMapFunction<byte[], byte[]> {
  private static final long serialVersionUID = 2;

  private static final int ALONG = 0;
  private static final int ANSWER = 1;
  private static final int BLOCK = 2;

  /** Of this Java, by their settings: opening one takes longer than many ranges do. They end with it. */
  private static final Map<ByteBuffer, Connection> CONNECTIONS = new HashMap<>();

  private final byte[] configuration;
  private final int rowsAnAnswer;

  private Scans(byte[] configuration, int rowsAnAnswer) {
    this.configuration = configuration;
    this.rowsAnAnswer = rowsAnAnswer;
  }

  /**
   * Reads tasks, each in a partition of its own.
   *
   * @return messages: of each range what goes along, if anything does, and one with rows at least
   */
  public static JavaRDD<byte[]> read(
      JavaSparkContext context, List<byte[]> tasks, Configuration configuration, int rowsAnAnswer) throws IOException {
    ByteArrayOutputStream written = new ByteArrayOutputStream();
    configuration.write(new DataOutputStream(written));
    return context.parallelize(tasks, tasks.size()).flatMap(new Scans(written.toByteArray(), rowsAnAnswer));
  }

  @Override
  public Iterator<byte[]> call(byte[] task) throws IOException {
    Messages messages = new Messages(new DataInputStream(new ByteArrayInputStream(task)));
    TaskContext.get().addTaskCompletionListener((TaskCompletionListener) context -> messages.close());
    return messages;
  }

  private Configuration settings() throws IOException {
    Configuration conf = new Configuration(false);
    conf.readFields(new DataInputStream(new ByteArrayInputStream(configuration)));
    return conf;
  }

  private Connection connection() throws IOException {
    ByteBuffer key = ByteBuffer.wrap(configuration);
    synchronized (CONNECTIONS) {
      Connection found = CONNECTIONS.get(key);
      if (found == null || found.isClosed()) {
        found = ConnectionFactory.createConnection(settings());
        CONNECTIONS.put(key, found);
      }
      return found;
    }
  }

  static ByteBuffer message(int number, int kind, int size) {
    return ByteBuffer.allocate(8 + size).putInt(number).putInt(kind);
  }

  /** The messages of a task, made as they are asked for. */
  private final class Messages implements Iterator<byte[]> {
    private final DataInputStream task;
    private final Queue<byte[]> ready = new ArrayDeque<>();
    private final Map<String, SnapshotFiles> snapshots = new HashMap<>();
    private ResultScanner scanner;
    private int number;
    private boolean keysOnly;
    private Blocks blocks;

    Messages(DataInputStream task) {
      this.task = task;
    }

    @Override
    public boolean hasNext() {
      try {
        return !ready.isEmpty() || scanner != null || task.available() > 0;
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    @Override
    public byte[] next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      try {
        if (ready.isEmpty()) {
          if (scanner == null) {
            open();
          }
          Result[] results = scanner.next(rowsAnAnswer);
          if (results.length < rowsAnAnswer) {
            scanner.close();
            scanner = null;
          }
          hand(results);
        }
        return ready.remove();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private void open() throws IOException {
      number = task.readInt();
      byte[] along = read();
      if (along.length > 0) {
        ready.add(message(number, ALONG, along.length).put(along).array());
      }
      TableName table = TableName.valueOf(task.readUTF());
      String snapshot = task.readUTF();
      String restored = task.readUTF();
      byte[] family = task.readUTF().getBytes(StandardCharsets.UTF_8);
      keysOnly = task.readBoolean();
      byte[][] qualifiers = new byte[task.readInt()][];
      for (int column = 0; column < qualifiers.length; column++) {
        qualifiers[column] = read();
      }
      blocks = qualifiers.length > 0 ? new Blocks(qualifiers) : null;
      Scan scan = new Scan().addFamily(family).setCaching(rowsAnAnswer).setCacheBlocks(false).setAsyncPrefetch(true);
      scan.withStartRow(read()).withStopRow(read());
      if (keysOnly) {
        scan.setFilter(new FilterList(new FirstKeyOnlyFilter(), new KeyOnlyFilter()));
      }
      if (snapshot.isEmpty()) {
        scanner = connection().getTable(table).getScanner(scan);
      } else {
        SnapshotFiles files = snapshots.get(snapshot);
        if (files == null) {
          files = new SnapshotFiles(settings(), snapshot, restored);
          snapshots.put(snapshot, files);
        }
        scanner = files.scan(family, scan);
      }
    }

    private byte[] read() throws IOException {
      byte[] found = new byte[task.readInt()];
      task.readFully(found);
      return found;
    }

    /** Makes messages of rows: as blocks where they are of that kind, as many as have one beginning of their keys. */
    private void hand(Result[] results) {
      if (blocks == null || keysOnly) {
        ready.add(Answers.message(number, ANSWER, results, keysOnly));
        return;
      }
      for (int from = 0; from < results.length; ) {
        int to = blocks.end(results, from);
        byte[] block = blocks.message(number, BLOCK, results, from, to);
        ready.add(
            block != null
                ? block
                : Answers.message(number, ANSWER, Arrays.copyOfRange(results, from, to), false));
        from = to;
      }
      if (results.length == 0) {
        ready.add(Answers.message(number, ANSWER, results, false));
      }
    }

    void close() {
      if (scanner != null) {
        scanner.close();
      }
    }
  }
}
