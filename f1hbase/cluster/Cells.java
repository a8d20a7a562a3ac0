package f1hbase;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.KeyValue;
import org.apache.hadoop.hbase.io.ImmutableBytesWritable;
import org.apache.spark.api.java.function.PairFlatMapFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.util.LongAccumulator;
import scala.Tuple2;

/**
 * Cuts rows that Python has packed into the cells that HFileOutputFormat2 takes, which Python cannot make.
 *
 * <p>A packed row is the length of its family (1 byte) and its family; then, in HBase's order, of each cell the length
 * of its qualifier (2 bytes), its qualifier, the length of its value (4 bytes) and its value. Big-endian.
 */
public final class Cells implements PairFlatMapFunction<Row, ImmutableBytesWritable, Cell> {
  private static final long serialVersionUID = 1;

  private final long timestamp;
  private final LongAccumulator written;

  private Cells(long timestamp, LongAccumulator written) {
    this.timestamp = timestamp;
    this.written = written;
  }

  /**
   * Writes rows (key, packed), sorted by key in each partition, as the output format of the configuration does.
   *
   * @return how many rows were written
   */
  public static long save(Dataset<Row> rows, Configuration configuration, long timestamp) {
    LongAccumulator written = rows.sparkSession().sparkContext().longAccumulator();
    rows.toJavaRDD().flatMapToPair(new Cells(timestamp, written)).saveAsNewAPIHadoopDataset(configuration);
    return written.value();
  }

  @Override
  public Iterator<Tuple2<ImmutableBytesWritable, Cell>> call(Row row) {
    byte[] key = (byte[]) row.get(0);
    byte[] packed = (byte[]) row.get(1);
    ImmutableBytesWritable name = new ImmutableBytesWritable(key);
    ByteBuffer rest = ByteBuffer.wrap(packed);
    int familyLength = rest.get();
    int family = skip(rest, familyLength);
    List<Tuple2<ImmutableBytesWritable, Cell>> cells = new ArrayList<>();
    while (rest.hasRemaining()) {
      int qualifierLength = rest.getShort();
      int qualifier = skip(rest, qualifierLength);
      int valueLength = rest.getInt();
      int value = skip(rest, valueLength);
      cells.add(
          new Tuple2<>(
              name,
              new KeyValue(
                  key, 0, key.length,
                  packed, family, familyLength,
                  packed, qualifier, qualifierLength,
                  timestamp, KeyValue.Type.Put,
                  packed, value, valueLength)));
    }
    written.add(1);
    return cells.iterator();
  }

  private static int skip(ByteBuffer buffer, int length) {
    int start = buffer.position();
    buffer.position(start + length);
    return start;
  }
}
