package f1hbase;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.client.TableSnapshotScanner;
import org.apache.hadoop.hbase.filter.FilterList;
import org.apache.hadoop.hbase.filter.FirstKeyOnlyFilter;
import org.apache.hadoop.hbase.filter.KeyOnlyFilter;
import org.apache.hadoop.hbase.util.CommonFSUtils;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.api.java.function.FlatMapFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.util.TaskCompletionListener;

/**
 * Reads ranges of rows in executors, from region servers or from the files of a snapshot, and hands them on as the
 * Thrift gateway answers `scannerGetList` in its binary protocol, which Python has a quick reader of.
 *
 * <p>A task is a number of ranges, one after the other. Of each: its number (4 bytes); what goes with its first answer;
 * the table, the snapshot (empty for the table itself), the folder that this is restored to, and the family (as of
 * `DataOutput.writeUTF`); whether only keys are wanted (1 byte); the first key, and the one that it ends before. What
 * goes along and keys have their lengths (4 bytes) before them. Big-endian.
 */
public final class Scans implements FlatMapFunction<byte[], Row> {
  private static final long serialVersionUID = 1;

  private static final byte STRUCT = 12;
  private static final byte STRING = 11;
  private static final byte LIST = 15;
  private static final byte MAP = 13;
  private static final byte I64 = 10;
  private static final byte STOP = 0;
  private static final int REPLY = 0x80010002;
  private static final byte[] NAME = {'s', 'c', 'a', 'n', 'n', 'e', 'r', 'G', 'e', 't', 'L', 'i', 's', 't'};

  private static final int AROUND_ROWS = 4 + 4 + NAME.length + 4 + 3 + 1 + 4 + 1;
  private static final int AROUND_ROW = 3 + 4 + 3 + 1 + 1 + 4 + 1;
  private static final int AROUND_CELL = 4 + 1 + 3 + 4 + 3 + 8 + 1;
  private static final Cell[] NONE = {};
  private static final byte[] EMPTY = {};

  private final byte[] configuration;
  private final int rowsAnAnswer;

  private Scans(byte[] configuration, int rowsAnAnswer) {
    this.configuration = configuration;
    this.rowsAnAnswer = rowsAnAnswer;
  }

  /**
   * Reads tasks, each in a partition of its own.
   *
   * @return rows (number, what goes along, answer): of each range as many answers as it takes, one at least
   */
  public static Dataset<Row> read(
      SparkSession session, List<byte[]> tasks, Configuration configuration, int rowsAnAnswer) throws IOException {
    ByteArrayOutputStream written = new ByteArrayOutputStream();
    configuration.write(new DataOutputStream(written));
    JavaSparkContext context = JavaSparkContext.fromSparkContext(session.sparkContext());
    StructType schema =
        new StructType()
            .add("number", DataTypes.IntegerType)
            .add("along", DataTypes.BinaryType)
            .add("answer", DataTypes.BinaryType);
    return session.createDataFrame(
        context.parallelize(tasks, tasks.size()).flatMap(new Scans(written.toByteArray(), rowsAnAnswer)), schema);
  }

  @Override
  public Iterator<Row> call(byte[] task) throws IOException {
    Configuration conf = new Configuration(false);
    conf.readFields(new DataInputStream(new ByteArrayInputStream(configuration)));
    Answers answers = new Answers(new DataInputStream(new ByteArrayInputStream(task)), conf, rowsAnAnswer);
    TaskContext.get().addTaskCompletionListener((TaskCompletionListener) context -> answers.close());
    return answers;
  }

  /** The answers of a task, read as they are asked for. */
  private static final class Answers implements Iterator<Row> {
    private final DataInputStream task;
    private final Configuration conf;
    private final int rowsAnAnswer;
    private Connection connection;
    private ResultScanner scanner;
    private int number;
    private byte[] along;
    private boolean keysOnly;

    Answers(DataInputStream task, Configuration conf, int rowsAnAnswer) {
      this.task = task;
      this.conf = conf;
      this.rowsAnAnswer = rowsAnAnswer;
    }

    @Override
    public boolean hasNext() {
      try {
        return scanner != null || task.available() > 0;
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    @Override
    public Row next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      try {
        if (scanner == null) {
          open();
        }
        Result[] results = scanner.next(rowsAnAnswer);
        if (results.length < rowsAnAnswer) {
          scanner.close();
          scanner = null;
        }
        Row row = RowFactory.create(number, along, answer(results));
        along = EMPTY;
        return row;
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private void open() throws IOException {
      number = task.readInt();
      along = read();
      TableName table = TableName.valueOf(task.readUTF());
      String snapshot = task.readUTF();
      String restored = task.readUTF();
      byte[] family = task.readUTF().getBytes(StandardCharsets.UTF_8);
      keysOnly = task.readBoolean();
      Scan scan = new Scan().addFamily(family).setCaching(rowsAnAnswer).setCacheBlocks(false);
      scan.withStartRow(read()).withStopRow(read());
      if (keysOnly) {
        scan.setFilter(new FilterList(new FirstKeyOnlyFilter(), new KeyOnlyFilter()));
      }
      if (!snapshot.isEmpty()) {
        Path root = CommonFSUtils.getRootDir(conf);
        scanner = new TableSnapshotScanner(conf, root, new Path(restored), snapshot, scan, true);
        return;
      }
      if (connection == null) {
        connection = ConnectionFactory.createConnection(conf);
      }
      scanner = connection.getTable(table).getScanner(scan);
    }

    private byte[] read() throws IOException {
      byte[] found = new byte[task.readInt()];
      task.readFully(found);
      return found;
    }

    private byte[] answer(Result[] results) {
      int size = AROUND_ROWS;
      for (Result result : results) {
        size += AROUND_ROW + result.getRow().length;
        for (Cell cell : keysOnly ? NONE : result.rawCells()) {
          size += AROUND_CELL + cell.getFamilyLength() + cell.getQualifierLength() + cell.getValueLength();
        }
      }
      ByteBuffer out = ByteBuffer.allocate(size);
      out.putInt(REPLY).putInt(NAME.length).put(NAME).putInt(0);
      out.put(LIST).putShort((short) 0).put(STRUCT).putInt(results.length);
      for (Result result : results) {
        Cell[] cells = keysOnly ? NONE : result.rawCells();
        byte[] key = result.getRow();
        out.put(STRING).putShort((short) 1).putInt(key.length).put(key);
        out.put(MAP).putShort((short) 2).put(STRING).put(STRUCT).putInt(cells.length);
        for (Cell cell : cells) {
          out.putInt(cell.getFamilyLength() + 1 + cell.getQualifierLength());
          out.put(cell.getFamilyArray(), cell.getFamilyOffset(), cell.getFamilyLength()).put((byte) ':');
          out.put(cell.getQualifierArray(), cell.getQualifierOffset(), cell.getQualifierLength());
          out.put(STRING).putShort((short) 1).putInt(cell.getValueLength());
          out.put(cell.getValueArray(), cell.getValueOffset(), cell.getValueLength());
          out.put(I64).putShort((short) 2).putLong(cell.getTimestamp()).put(STOP);
        }
        out.put(STOP);
      }
      return out.put(STOP).array();
    }

    void close() {
      try {
        if (scanner != null) {
          scanner.close();
        }
        if (connection != null) {
          connection.close();
        }
      } catch (IOException error) {
        // What was read is read.
      }
    }
  }
}
