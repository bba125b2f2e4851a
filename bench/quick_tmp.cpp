#include <fmt/format.h>
#include <chrono>
#include <cstdlib>
#include "bench/online_run.h"
#include "base/philox.h"
using namespace flex; using namespace flex::bench;
int main(int argc,char**argv){
  int seeds=argc>1?atoi(argv[1]):1; unsigned long first=argc>2?atoi(argv[2]):77; int only=argc>3?atoi(argv[3]):-1; unsigned long sseed=argc>4?atoi(argv[4]):5;
  auto all=draw_online_settings(sseed);
  double sum[4]={},n=0,worst=0; int bad=0;
  for(size_t i=0;i<all.size();++i){ if(only>=0&&(int)i!=only)continue; OnlineMachine m(all[i]);
    for(int s=0;s<seeds;++s){
    auto t0=std::chrono::steady_clock::now();
    auto r=run_policies(all[i],m,{},splitmix64(first+s));
    double sec=std::chrono::duration<double>(std::chrono::steady_clock::now()-t0).count();
    auto&o=r.online.statistics; auto pc=[&](double x){return 100*(x/r.oracle_us-1);};
    fmt::print("{:2} {:62} def {:7.2f} stat {:6.2f} dict {:6.2f} model {:6.2f} online {:6.2f}  share {:.2f}% expl {} sw {} bc {} flap {} reopen {} models {} {:.2f}s{}\n",i,all[i].text(),pc(r.default_us),pc(r.best_static_us),pc(r.dictionary.total_us),pc(r.model.total_us),pc(r.online.total_us),100.*double(o.explored_ns)/double(o.total_ns),o.explored_iterations,o.switches,o.bucket_changes,o.flaps,o.reopenings,o.models,sec, r.best_static_us<r.online.total_us && r.best_static_us>1.05*r.oracle_us?" STATIC":"");
    sum[0]+=pc(r.best_static_us);sum[1]+=pc(r.dictionary.total_us);sum[2]+=pc(r.model.total_us);sum[3]+=pc(r.online.total_us);n++; worst=std::max(worst,pc(r.online.total_us)); bad+=pc(r.online.total_us)>3; fflush(stdout);
  }}
  fmt::print("mean static {:.2f} dict {:.2f} model {:.2f} online {:.2f} worst {:.2f} bad {}\n",sum[0]/n,sum[1]/n,sum[2]/n,sum[3]/n,worst,bad);
}
