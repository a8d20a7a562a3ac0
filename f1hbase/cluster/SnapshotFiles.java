package f1hbase;

import java.io.IOException;
import java.util.Iterator;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hbase.client.AbstractClientScanner;
import org.apache.hadoop.hbase.client.ClientSideRegionScanner;
import org.apache.hadoop.hbase.client.RegionInfo;
import org.apache.hadoop.hbase.client.Result;
import org.apache.hadoop.hbase.client.ResultScanner;
import org.apache.hadoop.hbase.client.Scan;
import org.apache.hadoop.hbase.client.TableDescriptor;
import org.apache.hadoop.hbase.client.TableDescriptorBuilder;
import org.apache.hadoop.hbase.shaded.protobuf.ProtobufUtil;
import org.apache.hadoop.hbase.snapshot.SnapshotDescriptionUtils;
import org.apache.hadoop.hbase.snapshot.SnapshotManifest;
import org.apache.hadoop.hbase.util.Bytes;
import org.apache.hadoop.hbase.util.CommonFSUtils;

/**
 * The files of a snapshot that is restored already, read one family at a time: HBase's own `TableSnapshotScanner` opens
 * those of all families for every range.
 */
final class SnapshotFiles {
  private final Configuration conf;
  private final FileSystem files;
  private final Path restored;
  private final TableDescriptor table;
  private final List<RegionInfo> regions;

  @SuppressWarnings("deprecation")
  SnapshotFiles(Configuration conf, String snapshot, String restored) throws IOException {
    this.conf = conf;
    this.restored = new Path(restored);
    Path root = CommonFSUtils.getRootDir(conf);
    files = root.getFileSystem(conf);
    // Nothing is written, so that it needs no room for that.
    conf.setBoolean("hbase.hregion.memstore.mslab.enabled", false);
    Path folder = SnapshotDescriptionUtils.getCompletedSnapshotDir(snapshot, root);
    SnapshotManifest manifest =
        SnapshotManifest.open(conf, files, folder, SnapshotDescriptionUtils.readSnapshotInfo(files, folder));
    table = manifest.getTableDescriptor();
    regions =
        manifest.getRegionManifests().stream()
            .map(region -> ProtobufUtil.toRegionInfo(region.getRegionInfo()))
            // One that was split is there, and offline, until its halves have been compacted.
            .filter(region -> !(region.isOffline() && region.isSplit()))
            .sorted()
            .collect(Collectors.toList());
  }

  /** Reads the rows of a range that have cells in a family. */
  ResultScanner scan(byte[] family, Scan scan) {
    TableDescriptor narrow =
        TableDescriptorBuilder.newBuilder(table.getTableName()).setColumnFamily(table.getColumnFamily(family)).build();
    Iterator<RegionInfo> mine =
        regions.stream()
            .filter(region -> overlaps(region, scan.getStartRow(), scan.getStopRow()))
            .collect(Collectors.toList())
            .iterator();
    return new RangeScanner(narrow, mine, scan);
  }

  private static boolean overlaps(RegionInfo region, byte[] start, byte[] stop) {
    return (region.getEndKey().length == 0 || Bytes.compareTo(start, region.getEndKey()) < 0)
        && (stop.length == 0 || Bytes.compareTo(region.getStartKey(), stop) < 0);
  }

  /** One region after the other. */
  private final class RangeScanner extends AbstractClientScanner {
    private final TableDescriptor narrow;
    private final Iterator<RegionInfo> left;
    private final Scan scan;
    private ClientSideRegionScanner region;

    RangeScanner(TableDescriptor narrow, Iterator<RegionInfo> left, Scan scan) {
      this.narrow = narrow;
      this.left = left;
      this.scan = scan;
      initScanMetrics(scan);
    }

    @Override
    public Result next() throws IOException {
      while (true) {
        if (region == null) {
          if (!left.hasNext()) {
            return null;
          }
          region = new ClientSideRegionScanner(conf, files, restored, narrow, left.next(), scan, scanMetrics);
        }
        Result result = region.next();
        if (result != null) {
          return result;
        }
        close();
      }
    }

    @Override
    public void close() {
      if (region != null) {
        region.close();
        region = null;
      }
    }

    @Override
    public boolean renewLease() {
      throw new UnsupportedOperationException();
    }
  }
}
