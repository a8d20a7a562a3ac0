package f1hbase;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.PriorityQueue;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.KeyValue;
import org.apache.hadoop.hbase.io.ImmutableBytesWritable;
import org.apache.hadoop.hbase.util.Bytes;
import org.apache.spark.api.java.function.PairFlatMapFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.util.LongAccumulator;
import scala.Tuple2;

/**
 * Merges blocks of rows that Python has packed, and cuts them into the cells that HFileOutputFormat2 takes, which Python
 * cannot make.
 *
 * <p>A block is rows of one family that have the same columns, sorted by key: the length of the family (1 byte) and the
 * family; how many columns there are (2 bytes), and of each, in HBase's order, the length of the qualifier (2 bytes) and
 * the qualifier; then of each row the length of its key (2 bytes), its key, and of each column the length of the value (4
 * bytes) and the value. Big-endian.
 *
 * <p>The blocks of a partition are sorted by family and first key. HFileOutputFormat2 has a writer for each family, so
 * rows need to be in order within a family alone. Only blocks that overlap are in memory together.
 */
public final class Cells implements PairFlatMapFunction<Iterator<Row>, ImmutableBytesWritable, Cell> {
  private static final long serialVersionUID = 3;

  private final long timestamp;
  private final String shared;
  private final LongAccumulator written;

  private Cells(long timestamp, String shared, LongAccumulator written) {
    this.timestamp = timestamp;
    this.shared = shared;
    this.written = written;
  }

  /**
   * Writes the rows of blocks, sorted by family and first key in each partition, as the output format of the
   * configuration does.
   *
   * @param shared a local file that each executor must see, as the driver does; null where the files are not local
   * @return how many rows were written
   */
  public static long save(Dataset<Row> blocks, Configuration configuration, long timestamp, String shared) {
    LongAccumulator written = blocks.sparkSession().sparkContext().longAccumulator();
    blocks
        .toJavaRDD()
        .mapPartitionsToPair(new Cells(timestamp, shared, written))
        .saveAsNewAPIHadoopDataset(configuration);
    return written.value();
  }

  @Override
  public Iterator<Tuple2<ImmutableBytesWritable, Cell>> call(Iterator<Row> blocks) throws IOException {
    // Else the files of this executor stay on its machine, and HBase is given those of others alone.
    if (shared != null && !new File(shared).exists()) {
      throw new IOException("the staging folder is another one on this executor");
    }
    return new Merged(blocks);
  }

  /** The cells of blocks, in the order of families, keys and qualifiers. */
  private final class Merged implements Iterator<Tuple2<ImmutableBytesWritable, Cell>> {
    private final Iterator<Row> blocks;
    private final PriorityQueue<Block> others = new PriorityQueue<>();
    private Block following;
    private Block current;

    Merged(Iterator<Row> blocks) {
      this.blocks = blocks;
      this.following = next(blocks);
      settle();
    }

    @Override
    public boolean hasNext() {
      return current != null;
    }

    @Override
    public Tuple2<ImmutableBytesWritable, Cell> next() {
      if (current == null) {
        throw new NoSuchElementException();
      }
      Tuple2<ImmutableBytesWritable, Cell> cell = current.cell(timestamp);
      if (current.column == current.columns.length) {
        written.add(1);
        if (current.hasRow()) {
          current.readKey();
        } else {
          current = null;
        }
        settle();
      }
      return cell;
    }

    /** Has the current block be the one whose row comes first. */
    private void settle() {
      Block other = others.peek();
      if (current != null
          && (other == null || current.compareTo(other) <= 0)
          && (following == null || current.compareTo(following) <= 0)) {
        return;
      }
      if (current != null) {
        others.add(current);
      }
      while (following != null && (others.isEmpty() || following.compareTo(others.peek()) < 0)) {
        others.add(following);
        following = next(blocks);
      }
      current = others.poll();
    }

    private Block next(Iterator<Row> blocks) {
      return blocks.hasNext() ? new Block((byte[]) blocks.next().get(0)) : null;
    }
  }

  /** A block, and how far it is read: always at a row, of which some cells may have been taken. */
  private static final class Block implements Comparable<Block> {
    final byte[] family;
    final byte[][] columns;
    int column;
    private final byte[] bytes;
    private final ByteBuffer rest;
    private byte[] key;
    private ImmutableBytesWritable name;

    Block(byte[] bytes) {
      this.bytes = bytes;
      this.rest = ByteBuffer.wrap(bytes);
      this.family = take(rest.get());
      this.columns = new byte[rest.getShort()][];
      for (int number = 0; number < columns.length; number++) {
        columns[number] = take(rest.getShort());
      }
      readKey();
    }

    boolean hasRow() {
      return rest.hasRemaining();
    }

    void readKey() {
      key = take(rest.getShort());
      name = new ImmutableBytesWritable(key);
      column = 0;
    }

    /** The next cell of the row. */
    Tuple2<ImmutableBytesWritable, Cell> cell(long timestamp) {
      byte[] qualifier = columns[column++];
      int length = rest.getInt();
      int start = rest.position();
      rest.position(start + length);
      return new Tuple2<>(
          name,
          new KeyValue(
              key, 0, key.length,
              family, 0, family.length,
              qualifier, 0, qualifier.length,
              timestamp, KeyValue.Type.Put,
              bytes, start, length));
    }

    @Override
    public int compareTo(Block other) {
      int order = Bytes.compareTo(family, other.family);
      return order != 0 ? order : Bytes.compareTo(key, other.key);
    }

    private byte[] take(int length) {
      int start = rest.position();
      rest.position(start + length);
      return Arrays.copyOfRange(bytes, start, start + length);
    }
  }
}
